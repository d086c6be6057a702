// Do kernels of sample_tokens draw tokens as often as they should? In Metal sums differ from MLX's
// in their last bits, so for a key the token may be another; over many keys it may not.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "mlx_kd/base/random.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::evaluate::draws_test {
namespace {

constexpr int64_t kTokens = 16, kDraws = 1000;  // of each filters

struct Filters {
  double temperature = 1, top_p = 0, min_p = 0;
  int64_t top_k = 0;
};
const Filters kFilters[] = {{},
                            {.temperature = 0.7, .top_p = 0.9},
                            {.temperature = 1.5, .min_p = 0.05},
                            {.temperature = 1.2, .top_p = 0.95, .top_k = 6}};
constexpr int64_t kRows = kDraws * static_cast<int64_t>(std::size(kFilters));

std::vector<float> some_logits() {
  base::Random random(5);
  std::vector<float> logits;
  for (int64_t i = 0; i < kTokens; ++i) logits.push_back(static_cast<float>(1.5 * random.normal()));
  return logits;
}

// What the chain of filters leaves of softmax(logits), at the temperature. No two logits are equal.
std::vector<double> wanted(const std::vector<float>& logits, const Filters& by) {
  std::vector<double> p;
  double all = 0;
  for (const float x : logits) p.push_back(std::exp(x)), all += p.back();
  const double most = *std::max_element(p.begin(), p.end());
  std::vector<double> result(p.size(), 0);
  double kept = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    double above = 0;
    int64_t larger = 0;
    for (const double other : p)
      if (other > p[i]) above += other, ++larger;
    const bool stays = (by.top_p == 0 || above < by.top_p * all) &&
                       (by.min_p == 0 || p[i] >= by.min_p * most) &&
                       (by.top_k == 0 || larger < by.top_k);
    if (stays) kept += result[i] = std::pow(p[i], 1 / by.temperature);
  }
  for (double& each : result) each /= kept;
  return result;
}

// Chi-square of the counts, and what it exceeds once in a million draws of them (Wilson and
// Hilferty). Infinite where a token was drawn that cannot be.
struct ChiSquare {
  double value = 0, limit = 0;
};
ChiSquare chi_square(const std::vector<int64_t>& counts, const std::vector<double>& p) {
  ChiSquare chi;
  double freedom = -1;
  for (size_t i = 0; i < p.size(); ++i) {
    if (p[i] == 0 && counts[i] > 0) chi.value = std::numeric_limits<double>::infinity();
    if (p[i] == 0) continue;
    const double expected = p[i] * kDraws;
    chi.value += std::pow(static_cast<double>(counts[i]) - expected, 2) / expected;
    ++freedom;
  }
  const double spread = 2 / (9 * freedom);
  chi.limit = freedom * std::pow(1 - spread + 4.75 * std::sqrt(spread), 3);
  return chi;
}

// What the kernel reads: equal logits in all rows, and for each row its filters and a key of its
// own.
struct Inputs {
  std::vector<float> logits, settings;
  std::vector<uint32_t> keys;

  explicit Inputs(const std::vector<float>& row) {
    base::Random random(11);
    for (const Filters& by : kFilters)
      for (int64_t i = 0; i < kDraws; ++i) {
        logits.insert(logits.end(), row.begin(), row.end());
        settings.insert(settings.end(),
                        {static_cast<float>(1 / by.temperature), static_cast<float>(by.top_p),
                         by.min_p == 0 ? -std::numeric_limits<float>::infinity()
                                       : static_cast<float>(std::log(by.min_p)),
                         1, static_cast<float>(by.top_k), 0, 0.1f});
        for (int half = 0; half < 2; ++half) keys.push_back(static_cast<uint32_t>(random.next()));
      }
  }
};

// Tokens by the default kernel of a language; none where it does not compile.
std::vector<uint32_t> drawn(const std::string& language, const std::string& device_name,
                            const Inputs& inputs) {
  const spec::Op& op = kernels::find_op("sample_tokens");
  const auto device = devices::open_device(device_name);
  const auto variant =
      std::find_if(op.variants.begin(), op.variants.end(),
                   [&](const spec::Variant& one) { return one.language == language; });
  spec::Dims dims = {{"B", kRows}, {"V", kTokens}, {"each_row", 1}, {"keys", kRows}};
  for (const char* none : {"top", "normalised", "special", "vector"}) dims.set(none, 0);
  dims = spec::complete(op, dims);
  const auto t = spec::Dtype::float32;
  const spec::Space space = variant->space(t, device->id().traits);
  const spec::Setting knobs = spec::default_setting(space);
  const spec::Candidate candidate = spec::make_candidate(op, *variant, t, knobs, space, dims);
  const devices::Artifact artifact = device->compile(candidate, 120);
  EXPECT_TRUE(artifact.ok) << artifact.error;
  if (!artifact.ok) return {};
  std::vector<uint32_t> tokens(kRows), ids(1);
  std::vector<float> logprobs(kRows), largest(1);
  const int32_t special = 0;
  device->load(artifact, candidate)
      ->launch({inputs.logits.data(), inputs.keys.data(), &special, inputs.settings.data()},
               {tokens.data(), logprobs.data(), ids.data(), largest.data()},
               devices::make_call(op, *variant, t, dims, knobs, spec::default_scalars(op)));
  return tokens;
}

void expect_draws_by_the_distribution(const std::string& language, const std::string& device) {
  const std::vector<float> logits = some_logits();
  const std::vector<uint32_t> tokens = drawn(language, device, Inputs(logits));
  for (size_t f = 0; f < std::size(kFilters) && !tokens.empty(); ++f) {
    std::vector<int64_t> counts(kTokens, 0);
    for (int64_t i = 0; i < kDraws; ++i)
      ++counts.at(tokens[f * static_cast<size_t>(kDraws) + static_cast<size_t>(i)]);
    const ChiSquare chi = chi_square(counts, wanted(logits, kFilters[f]));
    EXPECT_LT(chi.value, chi.limit) << "filters " << f;
    Filters other = kFilters[f];  // the counts are enough to tell temperatures apart
    other.temperature *= 1.5;
    const ChiSquare wrong = chi_square(counts, wanted(logits, other));
    EXPECT_GT(wrong.value, wrong.limit) << "filters " << f;
  }
}

TEST(SampleTokens, DrawsByTheDistributionInMetal) {
  expect_draws_by_the_distribution("metal", "simt");
}

TEST(SampleTokens, DrawsByTheDistributionOnACpu) {
  expect_draws_by_the_distribution("cpp", "cpu");
}

}  // namespace
}  // namespace mlx_kd::evaluate::draws_test
