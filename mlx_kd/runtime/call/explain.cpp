#include <algorithm>
#include <cmath>
#include <cstdio>

#include "mlx_kd/base/error.h"
#include "mlx_kd/runtime/call/call.h"
#include "mlx_kd/runtime/call/tracing.h"
#include "mlx_kd/runtime/pins/default_kernel.h"
#include "mlx_kd/runtime/pins/describe.h"
#include "mlx_kd/runtime/state/call_counts.h"
#include "mlx_kd/runtime/state/process.h"
#include "mlx_kd/runtime/state/stats.h"

namespace mlx_kd::runtime {
namespace {

namespace mx = mlx::core;

// Of the inputs of type T: that of a port of a fixed type says nothing.
std::string array_dtype(const spec::Op& op, const std::vector<mx::array>& inputs) {
  const mx::array* first = nullptr;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!op.inputs[i].type.follows() || is_absent(op.inputs[i], inputs[i])) continue;
    if (first && inputs[i].dtype() != first->dtype()) return "mixed";
    if (!first) first = &inputs[i];
  }
  return first ? type_text(*first) : "";
}

std::string found_faster(const spec::Metrics& metrics) {
  if (std::isnan(metrics.speedup_vs_ref)) return "";
  char text[64];
  std::snprintf(text, sizeof text, ", %.2f times as fast as MLX when it was found",
                metrics.speedup_vs_ref);
  return text;
}

// Of a call that a pin matches.
void explain_pin(const Pin& pin, const Query& query, const std::vector<mx::array>& inputs,
                 Explanation& result) {
  const auto kernel = serve(pin, 0, query)->kernel;
  result.candidate_id = pin.entry.candidate_id;
  result.state = name_of(kernel->state());
  if (kernel->state() == KernelState::dropped)
    result.reason = "its pin was dropped: " + kernel->reason();
  else if (!may_pin(inputs))
    result.reason =
        "the call is traced for an export, or for any shape: MLX's operators are used there";
  else
    result.pinned = true;
  if (result.pinned)
    result.reason = "the pin of " + shape_of(pin) + found_faster(pin.entry.metrics);
}

void explain_miss(const Table& table, const Query& query, Explanation& result) {
  const Pin* nearest = table.nearest(query);
  if (!nearest) {
    result.reason = "the pack has no pin of this op that this process can use";
    return;
  }
  result.nearest = title_of(*nearest);
  result.differs = differences_text(*nearest, query);
  result.reason = result.differs.empty() ? "its pin cannot be launched at this size"
                                         : "no pin of this size: " + result.differs;
}

void explain_query(const Query& query, const std::vector<mx::array>& inputs, Explanation& result) {
  uint64_t generation = 0;
  const auto table = Process::shared().table(generation);
  const Pin* pin = find_servable(*table, query);
  pin ? explain_pin(*pin, query, inputs, result) : explain_miss(*table, query, result);
}

// Of a call without a pin whose op the setting default_kernels names.
void explain_default(const Query& query, const std::vector<mx::array>& inputs,
                     Explanation& result) {
  std::string why;
  const auto kernel = default_kernel_of(query, why);
  if (kernel && may_pin(inputs)) {
    result.by_default = true;
    result.reason += "; the op's default kernel runs, as the settings ask";
    result.state = name_of(kernel->state());
    return;
  }
  if (kernel) why = "the call is traced for an export, or for any shape";
  result.reason += "; the settings ask for the op's default kernel, but MLX's form runs: " + why;
}

std::string language_of_default(const std::optional<Query>& query) {
  std::string why;
  const auto kernel = query ? default_kernel_of(*query, why) : nullptr;
  return kernel ? ", in " + kernel->candidate().language : "";
}

}  // namespace

Explanation explain(const std::string& op, const std::vector<mx::array>& inputs,
                    const std::map<std::string, double>& params, mx::StreamOrDevice s) {
  const Operator& found = known_operator(op);
  const mx::Stream stream = mx::to_stream(s);
  found.signature.check_count(inputs.size());
  const auto arrays = found.op->arrange ? found.op->arrange(inputs, stream) : inputs;
  Explanation result;
  result.op = op;
  result.dtype = array_dtype(*found.op, arrays);
  const auto query = read_call(found, arrays, numbers_of(found, params), stream).query;
  if (query) result.shape = shape_of(*query);
  if (!(Process::shared().modes() & kPins))
    result.reason = "pins are off: set MLX_KD_USE_DISCOVERED_KERNELS=1, or switch them on in code";
  else if (const std::string error = Process::shared().error(); !error.empty())
    result.reason = "no pack is loaded: " + error;
  else if (!query)
    result.reason = unfit_reason(found, arrays);
  else
    explain_query(*query, arrays, result);
  if (!result.pinned && query && Process::shared().runs_default(found.index))
    explain_default(*query, arrays, result);
  else if (!result.pinned && !found.mlx_runs_on(stream))
    result.reason +=
        "; MLX has no form of it here: the op's default setting runs" + language_of_default(query);
  return result;
}

}  // namespace mlx_kd::runtime
