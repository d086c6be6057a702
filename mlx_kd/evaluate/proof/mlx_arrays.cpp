#include "mlx_kd/evaluate/proof/mlx_arrays.h"

#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <cstring>

#include "mlx_kd/base/error.h"

namespace mlx_kd::evaluate {

mx::array to_mlx(const void* data, const spec::Shape& shape, spec::Dtype dtype) {
  const auto bytes = static_cast<size_t>(spec::element_count(shape) * spec::size_of(dtype));
  auto memory = mx::allocator::malloc(bytes);
  std::memcpy(memory.buffer().raw_ptr(), data, bytes);
  return mx::array(std::move(memory), mx::Shape(shape.begin(), shape.end()), mlx_dtype(dtype));
}

std::vector<mx::array> evaluated(const std::vector<mx::array>& outputs, size_t count,
                                 spec::Dtype dtype, const std::string& op_name) {
  if (outputs.size() != count)
    base::fail("evaluate", "op '" + op_name + "' gives " + std::to_string(outputs.size()) +
                               " arrays in MLX and states " + std::to_string(count) +
                               " outputs: mend its op.cpp");
  std::vector<mx::array> result;
  for (const auto& output : outputs) result.push_back(mx::contiguous(output));
  mx::eval(result);
  for (const auto& output : result)
    if (output.dtype() != mlx_dtype(dtype))
      base::fail("evaluate", "op '" + op_name +
                                 "' gives another type than its inputs in MLX: "
                                 "mend its op.cpp");
  return result;
}

}  // namespace mlx_kd::evaluate
