#include "mlx_kd/evaluate/evaluator.h"

#include "mlx_kd/base/error.h"
#include "mlx_kd/evaluate/device_evaluator.h"
#include "mlx_kd/evaluate/null_evaluator.h"

namespace mlx_kd::evaluate {

std::unique_ptr<Evaluator> make_evaluator(const Task& task, const EvaluateOptions& options) {
  if (task.sizes.empty())
    base::misuse("evaluate", "op '" + task.op->name + "' got no sizes: name at least one");
  if (!options.params.empty() && options.params.size() != task.op->runtime_inputs.size())
    base::misuse("evaluate", "op '" + task.op->name + "' takes " +
                                 std::to_string(task.op->runtime_inputs.size()) +
                                 " runtime inputs and got " +
                                 std::to_string(options.params.size()) + ": give each or none");
  if (task.device_kind == "null") return std::make_unique<NullEvaluator>(task, options);
  return std::make_unique<DeviceEvaluator>(task, options);
}

}  // namespace mlx_kd::evaluate
