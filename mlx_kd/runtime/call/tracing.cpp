#include "mlx_kd/runtime/call/tracing.h"

#include <algorithm>
#include <stdexcept>

#include "mlx/backend/metal/metal.h"
#include "mlx/fast.h"
#include "mlx/ops.h"

namespace mlx_kd::runtime {
namespace {

namespace mx = mlx::core;

// Where sizes may change, a broadcast array has the others as inputs, to take its size from.
bool in_shapeless_trace() {
  const mx::array row(0.0f), rows = mx::zeros({2}, mx::float32, mx::Device::cpu);
  return mx::broadcast_arrays({row, rows}, mx::Device::cpu).front().inputs().size() > 1;
}

// Without Metal, a Metal kernel can be written down for an export and is refused otherwise. With
// Metal this cannot tell, and says no.
bool in_export() {
  if (mx::metal::is_available()) return false;
  static const auto& kernel = *new mx::fast::CustomKernelFunction(
      mx::fast::metal_kernel("mlx_kd_probe", {"a"}, {"b"}, "b[0] = a[0];"));
  try {
    kernel({mx::array(0.0f)}, {mx::Shape{1}}, {mx::float32}, {1, 1, 1}, {1, 1, 1}, {}, std::nullopt,
           false, {});
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

}  // namespace

bool may_pin(const std::vector<mx::array>& inputs) {
  const bool traced = std::any_of(inputs.begin(), inputs.end(),
                                  [](const mx::array& input) { return input.is_tracer(); });
  return !traced || (!in_shapeless_trace() && !in_export());
}

}  // namespace mlx_kd::runtime
