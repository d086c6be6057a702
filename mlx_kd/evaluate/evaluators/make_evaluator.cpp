#include <unistd.h>

#include <cmath>

#include "mlx_kd/base/error.h"
#include "mlx_kd/evaluate/evaluator.h"
#include "mlx_kd/evaluate/evaluators/device_evaluator.h"
#include "mlx_kd/evaluate/evaluators/null_evaluator.h"

namespace mlx_kd::evaluate {
namespace {

// A worker keeps the arrays of all sizes, once for the kernel and once for MLX.
void check_memory(const Task& task) {
  double bytes = 0;
  for (const spec::Dims& size : task.sizes)
    bytes += 2 * spec::cost_of(*task.op, size, task.dtype).bytes;
  const double memory =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  const auto gib = [](double value) {
    return std::to_string(static_cast<int64_t>(std::ceil(value / (1 << 30)))) + " GiB";
  };
  if (bytes > memory)
    base::misuse("evaluate", "the arrays of these sizes take " + gib(bytes) +
                                 " and this machine has " + gib(memory) + ": give smaller sizes");
}

}  // namespace

std::unique_ptr<Evaluator> make_evaluator(const Task& task, const EvaluateOptions& options) {
  if (task.sizes.empty())
    base::misuse("evaluate", "op '" + task.op->name + "' got no sizes: name at least one");
  if (!options.params.empty() && options.params.size() != task.op->scalars.size())
    base::misuse("evaluate", "op '" + task.op->name + "' takes " +
                                 std::to_string(task.op->scalars.size()) + " scalars and got " +
                                 std::to_string(options.params.size()) + ": give each or none");
  if (task.device_kind == "null") {
    EvaluateOptions invented = options;
    invented.null_times = false;  // they are, and there is nothing to prove
    return std::make_unique<NullEvaluator>(task, invented);
  }
  check_memory(task);
  if (options.null_times) return std::make_unique<NullEvaluator>(task, options);
  return std::make_unique<DeviceEvaluator>(task, options);
}

}  // namespace mlx_kd::evaluate
