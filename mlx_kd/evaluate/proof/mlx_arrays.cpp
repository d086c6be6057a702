#include "mlx_kd/evaluate/proof/mlx_arrays.h"

#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <cstring>

#include "mlx_kd/base/error.h"

namespace mlx_kd::evaluate {

mx::array to_mlx(const void* data, const spec::ArraySpec& array) {
  const auto bytes = static_cast<size_t>(array.bytes());
  auto memory = mx::allocator::malloc(bytes);
  if (bytes > 0) std::memcpy(memory.buffer().raw_ptr(), data, bytes);
  return mx::array(std::move(memory), mx::Shape(array.shape.begin(), array.shape.end()),
                   mlx_dtype(array.type));
}

std::vector<mx::array> evaluated(const std::vector<mx::array>& outputs, const Case& c,
                                 const spec::Op& op) {
  if (outputs.size() != op.outputs.size())
    base::fail("evaluate", "op '" + op.name + "' gives " + std::to_string(outputs.size()) +
                               " arrays in MLX and states " + std::to_string(op.outputs.size()) +
                               " outputs: correct its op.cpp");
  std::vector<mx::array> result;
  for (const auto& output : outputs) result.push_back(mx::contiguous(output));
  mx::eval(result);
  for (size_t i = 0; i < result.size(); ++i)
    if (result[i].dtype() != mlx_dtype(c.outputs[i].array.type))
      base::fail("evaluate", "output '" + op.outputs[i].name + "' of op '" + op.name +
                                 "' has another type in MLX than its port states: correct its "
                                 "op.cpp");
  return result;
}

}  // namespace mlx_kd::evaluate
