#include "mlx_kd/runtime/call/sample.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <stdexcept>

#include "mlx/ops.h"
#include "mlx/random.h"
#include "mlx/transforms.h"
#include "mlx_kd/runtime/call/ops.h"

namespace mlx_kd::runtime {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr size_t kNamedRows = 8;

template <class... Parts>
[[noreturn]] void refuse_sampling(const Parts&... parts) {
  std::ostringstream text;
  text << "[sample] ";
  (text << ... << parts);
  throw std::invalid_argument(text.str());
}

bool has_top_p(const Sampling& one) {
  return one.top_p > 0 && one.top_p < 1;
}

// What mlx-lm's filters refuse; only of filters that are on.
void check_filters(const Sampling& one, int64_t width) {
  if (one.min_p != 0) {
    if (!(one.min_p >= 0 && one.min_p <= 1))
      refuse_sampling("min_p is ", one.min_p, ": give a number in [0, 1]");
    if (one.min_tokens_to_keep < 1 || one.min_tokens_to_keep > width)
      refuse_sampling("min_tokens_to_keep is ", one.min_tokens_to_keep,
                      ": give a whole number, 1 to V = ", width);
  }
  if (one.xtc_probability > 0) {
    if (!(one.xtc_probability <= 1))
      refuse_sampling("xtc_probability is ", one.xtc_probability, ": give a number in [0, 1]");
    if (!(one.xtc_threshold >= 0 && one.xtc_threshold <= 0.5))
      refuse_sampling("xtc_threshold is ", one.xtc_threshold, ": give a number in [0, 0.5]");
  }
  if (one.top_k >= width && one.top_k > 0)
    refuse_sampling("top_k is ", one.top_k, ": give a whole number below V = ", width,
                    ", or 0 for none");
}

void check_sampling(const Sampling& one, int64_t width) {
  if (!(one.temperature == 0 || (one.temperature >= 1e-4 && one.temperature < kInf)))
    refuse_sampling("temperature is ", one.temperature, ": give 0, or 1e-4 or more");
  if (one.temperature != 0) check_filters(one, width);
}

// The same draws, with numbers that every filter takes: what is off has those of the operator.
Sampling effective(const Sampling& one) {
  Sampling made;
  made.temperature = one.temperature;
  if (one.temperature == 0) return made;
  made.top_p = has_top_p(one) ? one.top_p : 0;
  made.top_k = std::max<int64_t>(one.top_k, 0);
  if (one.min_p != 0) made.min_p = one.min_p, made.min_tokens_to_keep = one.min_tokens_to_keep;
  if (one.xtc_probability > 0)
    made.xtc_probability = one.xtc_probability, made.xtc_threshold = one.xtc_threshold;
  return made;
}

// A state to split, or the keys that MLX's state gives.
mx::array keys_of_draws(const std::vector<Sampling>& rows, const SampleOptions& options,
                        const mx::StreamOrDevice& s) {
  if (options.key) {
    if (options.key->dtype() != mx::uint32 || options.key->shape() != mx::Shape{2})
      refuse_sampling("key has ", options.key->size(), " elements and ", options.key->ndim(),
                      " axes: give uint32 [2], as mx::random::key does");
    return *options.key;
  }
  std::vector<mx::array> keys;
  for (const Sampling& one : rows) {
    const int draws = one.temperature == 0 ? 0 : one.xtc_probability > 0 ? 2 : 1;
    for (int i = 0; i < draws; ++i) keys.push_back(mx::random::KeySequence::default_().next());
  }
  if (keys.empty()) return mx::zeros({2}, mx::uint32, s);
  return mx::stack(keys, 0, s);
}

mx::array column_of_settings(const std::vector<Sampling>& rows) {
  std::vector<float> numbers;
  for (const Sampling& row : rows) {
    const Sampling one = effective(row);
    for (const double number :
         {one.temperature == 0 ? 0 : 1 / one.temperature, one.top_p,
          one.min_p == 0 ? -kInf : std::log(one.min_p), static_cast<double>(one.min_tokens_to_keep),
          static_cast<double>(one.top_k), one.xtc_probability, one.xtc_threshold})
      numbers.push_back(static_cast<float>(number));
  }
  return mx::array(numbers.data(), {static_cast<int>(rows.size()), 7});
}

void check_rows_of(const mx::array& logits) {
  mx::array most =
      mx::astype(mx::max(mx::reshape(logits, {-1, logits.shape(-1)}), -1), mx::float32);
  most.eval();
  std::ostringstream rows;
  size_t count = 0;
  for (size_t i = 0; i < most.size(); ++i)
    if (!std::isfinite(most.data<float>()[i]) && ++count <= kNamedRows)
      rows << (count > 1 ? ", " : "") << i;
  if (count > 0)
    refuse_sampling("logits have no distribution in row ", rows.str(),
                    count > kNamedRows ? " and more" : "", ": a NaN, +inf, or nothing but -inf");
}

void check_call(const mx::array& logits, const std::vector<Sampling>& rows,
                const SampleOptions& options) {
  if (logits.ndim() == 0) refuse_sampling("logits has no axis: give [..., V]");
  for (const Sampling& one : rows) check_sampling(one, logits.shape(-1));
  if (options.logprobs < 0 || options.logprobs > logits.shape(-1))
    refuse_sampling("logprobs is ", options.logprobs, ": give 0 to V = ", logits.shape(-1));
  if (options.check && logits.size() > 0) check_rows_of(logits);
}

Sampled sampled_by(const mx::array& logits, const mx::array& keys, const mx::array& settings,
                   const Sampling& one, const SampleOptions& options, const mx::StreamOrDevice& s) {
  const auto& special = options.xtc_special_tokens;
  const mx::array tokens(special.data(), {static_cast<int>(special.size())}, mx::int32);
  auto made = call("sample_tokens", {logits, keys, tokens, settings},
                   {{"temperature", one.temperature},
                    {"top_p", one.top_p},
                    {"min_p", one.min_p},
                    {"min_tokens_to_keep", one.min_tokens_to_keep},
                    {"top_k", one.top_k},
                    {"xtc_probability", one.xtc_probability},
                    {"xtc_threshold", one.xtc_threshold},
                    {"top", options.logprobs},
                    {"normalised", options.normalised}},
                   s);
  return {made[0], made[1], made[2], made[3]};
}

}  // namespace

Sampled sample(const mx::array& logits, const Sampling& sampling, const SampleOptions& options,
               mx::StreamOrDevice s) {
  check_call(logits, {sampling}, options);
  const Sampling one = effective(sampling);
  return sampled_by(logits, keys_of_draws({one}, options, s), mx::array({}, mx::float32), one,
                    options, s);
}

Sampled sample(const mx::array& logits, const std::vector<Sampling>& rows,
               const SampleOptions& options, mx::StreamOrDevice s) {
  check_call(logits, rows, options);
  const size_t count = logits.size() / static_cast<size_t>(std::max(logits.shape(-1), 1));
  if (rows.size() != count)
    refuse_sampling("there are settings for ", rows.size(), " rows: give one for each of ", count);
  if (rows.empty()) return sample(logits, Sampling{0}, options, s);
  return sampled_by(logits, keys_of_draws(rows, options, s), column_of_settings(rows), {}, options,
                    s);
}

}  // namespace mlx_kd::runtime
