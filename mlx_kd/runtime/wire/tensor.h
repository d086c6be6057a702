// Arrays as they lie in memory, and their copy into one contiguous piece in one pass.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "mlx/array.h"
#include "mlx_kd/base/api.h"

namespace mlx_kd::runtime::wire {

// Memory that somebody else keeps alive: an array of MLX, or a frame that was received.
struct MLX_KD_API Tensor {
  std::string dtype;             // MLX's name: "bfloat16", "uint32", ..
  std::vector<int64_t> shape;    // elements
  std::vector<int64_t> strides;  // elements, one for each axis
  const std::byte* data = nullptr;

  int64_t element_bytes() const;  // 0: no type of MLX has this name
  int64_t bytes() const;          // once contiguous
};

// What the array holds: evaluated here, not copied. The array must outlive the tensor.
MLX_KD_API Tensor tensor_of(mlx::core::array& array);
// The same memory with its axes in another order.
MLX_KD_API Tensor with_axes(const Tensor& tensor, const std::vector<int>& order);
// Row-major memory of this type and shape.
MLX_KD_API Tensor contiguous(std::string dtype, std::vector<int64_t> shape, const std::byte* data);

// Writes tensor.bytes() bytes, row-major: each byte is read once and written once. Large tensors
// are shared by the threads of the process's pool and bypass the caches.
MLX_KD_API void copy(const Tensor& tensor, std::byte* to);
// Asks the system for large pages below memory that is not touched yet: the first touch is then
// about ten times cheaper. A refusal changes nothing.
void prefer_large_pages(std::byte* memory, int64_t bytes);
// A new array of the tensor's axes, filled in one pass.
MLX_KD_API mlx::core::array to_array(const Tensor& tensor);

}  // namespace mlx_kd::runtime::wire
