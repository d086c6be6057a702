#include "mlx_kd/evaluate/time/graph_timer.h"

#include <mlx/compile.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/evaluate/proof/mlx_arrays.h"
#include "mlx_kd/evaluate/time/cache_flush.h"
#include "mlx_kd/evaluate/time/statistics.h"

namespace mlx_kd::evaluate {
namespace {

constexpr int kPresampleCalls = 4;

// Filled with the bytes of a source, repeated where they are fewer.
mx::array input_array(const spec::ArraySpec& array, const std::byte* source, int64_t source_bytes) {
  const int64_t bytes = array.bytes();
  std::vector<std::byte> whole(static_cast<size_t>(bytes));
  for (int64_t i = 0; i < bytes; i += source_bytes)
    std::memcpy(whole.data() + i, source, static_cast<size_t>(std::min(source_bytes, bytes - i)));
  return to_mlx(whole.data(), array);
}

void flush(const Arrays& arrays) {
  for (const auto& array : arrays) flush_from_caches(array.data<char>(), array.nbytes());
}

}  // namespace

GraphTimer::GraphTimer(const spec::Op& op, spec::Dtype t, const spec::Dims& dims, const Case& c,
                       const std::byte* memory, int64_t l2_bytes, const Protocol& protocol,
                       const devices::Accelerator* accelerator)
    : accelerator_(accelerator) {
  int64_t outputs = 0;
  for (size_t i = 0; i < op.outputs.size(); ++i) {
    updates_.push_back(spec::updated_input(op, i));
    if (updates_[i] < 0) outputs += spec::array_of(op.outputs[i], t, dims).bytes();
  }
  const int64_t call_bytes = std::max<int64_t>(1, spec::bytes_of(op.inputs, t, dims) + outputs);
  cold_ = call_bytes > l2_bytes / 2;
  const int64_t fit = std::min(protocol.graph_bytes / std::max<int64_t>(1, outputs),
                               cold_ ? protocol.cold_bytes / call_bytes : protocol.graph_bytes);
  calls_ = static_cast<int>(std::clamp<int64_t>(fit, 1, protocol.max_graph_calls));
  most_sets_ = static_cast<size_t>(
      cold_ ? calls_ : std::clamp<int64_t>(l2_bytes / 2 / call_bytes, 1, calls_));
  for (size_t k = 0; k < op.inputs.size(); ++k)
    sources_.push_back(
        {spec::array_of(op.inputs[k], t, dims), memory + c.inputs[k].offset, c.inputs[k].bytes});
}

Arrays GraphTimer::make_set() const {
  Arrays set;
  for (const Source& source : sources_)
    set.push_back(input_array(source.array, source.data, source.bytes));
  if (!accelerator_) return set;
  // MLX keeps what the host wrote in memory that both see; the copy lies in the device's own.
  for (auto& array : set)
    array = array.dtype() == mx::bool_ ? mx::logical_or(array, mx::array(false))
                                       : mx::multiply(array, mx::array(1, array.dtype()));
  mx::eval(set);
  return set;
}

std::span<Arrays> GraphTimer::sets_for(int calls) {
  const size_t count = std::min(static_cast<size_t>(calls), most_sets_);
  while (sets_.size() < count) sets_.push_back(make_set());
  return {sets_.data(), count};
}

double GraphTimer::sample(const Function& function, int calls) {
  const std::span<Arrays> sets = sets_for(calls);
  if (cold_ && accelerator_) accelerator_->flush();
  if (cold_ && !accelerator_) {
    const int64_t before = base::steady_ns();
    for (const Arrays& set : sets) flush(set);
    flush_us_ = 1e6 * base::seconds_since(before) / static_cast<double>(sets.size());
  }
  Arrays outputs;
  const int64_t start = base::steady_ns();
  for (int i = 0; i < calls; ++i) {
    Arrays& set = sets[static_cast<size_t>(i) % sets.size()];
    Arrays result = function(set);
    for (size_t k = 0; k < result.size(); ++k) {
      // Nothing else may hold an updated array, or MLX would copy it.
      if (updates_[k] >= 0)
        set[static_cast<size_t>(updates_[k])] = std::move(result[k]);
      else
        outputs.push_back(std::move(result[k]));
    }
  }
  for (const Arrays& set : sets)
    for (const int updated : updates_)
      if (updated >= 0) outputs.push_back(set[static_cast<size_t>(updated)]);
  mx::eval(outputs);
  const double us = 1e6 * base::seconds_since(start);
  if (cold_ && !accelerator_) flush(outputs);  // the next sample may get the same memory
  return us / calls;
}

GraphPlan plan_graph(double first_us, double second_us, int most_calls, const Protocol& protocol,
                     double flush_us) {
  const double slower = std::max(first_us, second_us);
  const double fit = std::floor(1e3 * protocol.graph_sample_ms / slower);
  const int calls = static_cast<int>(std::clamp(fit, 1.0, static_cast<double>(most_calls)));
  const double pair_s = 1e-6 * calls * (first_us + second_us + 2 * flush_us);
  const double pairs = std::clamp(protocol.claim_s / pair_s, double(protocol.claim_pairs),
                                  double(protocol.most_claim_pairs));
  return {calls, static_cast<int>(pairs), slower > 1e3 * protocol.slow_call_ms};
}

namespace {

GraphSides sides_of(GraphTimer& timer, const Function& first, const Function& second,
                    GraphCalls calls) {
  return {[&timer, &first, calls] { return timer.sample(first, calls.first); },
          [&timer, &second, calls] {
            return timer.sample(second, calls.second) * calls.second / calls.first;
          }};
}

void add_graph_pairs(const GraphSides& sides, int pairs, base::Random& random, GraphPairs& result) {
  for (int i = 0; i < pairs; ++i) {
    const bool in_order = random.next() >> 63;
    const double early = in_order ? sides.first_us() : sides.second_us();
    const double late = in_order ? sides.second_us() : sides.first_us();
    result.first_us.push_back(in_order ? early : late);
    result.second_us.push_back(in_order ? late : early);
    result.log_ratios.push_back(std::log(result.second_us.back() / result.first_us.back()));
  }
}

}  // namespace

GraphPairs time_graph_pairs(GraphTimer& timer, const Function& first, const Function& second,
                            GraphCalls calls, int pairs, base::Random& random) {
  timer.sample(first, calls.first), timer.sample(second, calls.second);
  GraphPairs result;
  add_graph_pairs(sides_of(timer, first, second, calls), pairs, random, result);
  return result;
}

// A call of the second side was made when the plan was, so it needs no warming.
GraphSpeedup compare_slow(const GraphSides& sides, const GraphPlan& plan, const Protocol& protocol,
                          uint64_t seed, base::Random& random) {
  sides.first_us();
  GraphSpeedup result;
  GraphPairs& pairs = result.pairs;
  add_graph_pairs(sides, protocol.slow_pairs, random, pairs);
  if (const auto few = few_ratios(pairs.log_ratios, protocol.slow_ratio)) {
    result.speedup = *few;
    return result;
  }
  add_graph_pairs(sides, plan.pairs - protocol.slow_pairs, random, pairs);
  result.speedup = bootstrap_ratio(pairs.log_ratios, protocol.bootstrap_resamples, seed);
  return result;
}

GraphSpeedup compare_graphs(GraphTimer& timer, const Function& first, const Function& second,
                            const GraphPlan& plan, const Protocol& protocol, uint64_t seed,
                            base::Random& random) {
  const GraphCalls calls = {plan.calls, plan.calls};
  if (plan.slow)
    return compare_slow(sides_of(timer, first, second, calls), plan, protocol, seed, random);
  GraphSpeedup result;
  result.pairs = time_graph_pairs(timer, first, second, calls, plan.pairs, random);
  result.speedup = bootstrap_ratio(result.pairs.log_ratios, protocol.bootstrap_resamples, seed);
  return result;
}

namespace {

using Form = decltype(spec::Op::mlx);

Function function_of(const Form& form, const std::vector<double>& scalars) {
  return [&form, scalars](const Arrays& inputs) {
    return form(inputs, scalars, mx::default_stream(mx::default_device()));
  };
}

// us of the first call; nullopt where the form does not run.
std::optional<double> first_call(const Form& form, const std::vector<double>& scalars,
                                 GraphTimer& timer) try {
  if (!form) return std::nullopt;
  return timer.sample_single(function_of(form, scalars));
} catch (const std::exception&) {  // MLX throws where it has no such operator on a device
  return std::nullopt;
}

struct FormTimes {
  double plain_us, compiled_us;
};

FormTimes presample(GraphTimer& timer, const Function& plain, const Function& compiled,
                    double first_us, const Protocol& protocol, base::Random& random) {
  if (first_us > 1e3 * protocol.slow_call_ms) return {first_us, timer.sample_single(compiled)};
  const int calls = std::min(kPresampleCalls, timer.most_calls());
  const GraphPairs pairs =
      time_graph_pairs(timer, plain, compiled, {calls, calls}, protocol.presample, random);
  return {median(pairs.first_us), median(pairs.second_us)};
}

}  // namespace

Baseline mlx_at_its_best(const spec::Op& op, const std::vector<double>& scalars, GraphTimer& timer,
                         const Protocol& protocol, base::Random& random) {
  auto first_us = first_call(op.mlx, scalars, timer);
  const bool has_mlx = first_us.has_value();
  if (!has_mlx) first_us = first_call(op.composition, scalars, timer);
  if (!first_us) return {"", nullptr, {}, true};
  const Function plain = function_of(has_mlx ? op.mlx : op.composition, scalars);
  const Function compiled = mx::compile(plain);
  const auto [plain_us, compiled_us] =
      presample(timer, plain, compiled, *first_us, protocol, random);
  const bool is_plain = plain_us <= compiled_us;
  const double us = std::min(plain_us, compiled_us);
  const GraphPlan plan = plan_graph(us, us, timer.most_calls(), protocol, timer.flush_us());
  const std::string name = !has_mlx ? "composition" : is_plain ? "plain" : "compiled";
  return {name, is_plain ? plain : compiled, plan, !has_mlx, !is_plain, us};
}

Function mlx_form(const spec::Op& op, const std::vector<double>& scalars, bool is_composition,
                  bool is_compiled) {
  const Function plain = function_of(is_composition ? op.composition : op.mlx, scalars);
  return is_compiled ? mx::compile(plain) : plain;
}

}  // namespace mlx_kd::evaluate
