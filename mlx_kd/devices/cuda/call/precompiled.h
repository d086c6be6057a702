// Kernels of one launch through mx::fast::precompiled_cuda_kernel, where the native module is not.
#pragma once

#include <mlx/fast.h>

#include <tuple>
#include <utility>

#include "mlx_kd/devices/cuda/call/text_work.h"
#include "mlx_kd/msl/translate/translate.h"

namespace mlx_kd::devices::cuda {

// The array, or a copy where it may not start at a multiple of 16 bytes.
mlx::core::array aligned(const mlx::core::array& array);

// A size as MLX passes it to its precompiled kernels.
std::tuple<int, int, int> three(const std::array<unsigned, 3>& size);

// One call of a candidate: its arrays in the order of the kernel's parameters, which are those of
// `stage`.
class PrecompiledCall {
 public:
  PrecompiledCall(const std::vector<msl::CudaParameter>& layout, const TextStage& stage,
                  const std::vector<mlx::core::array>& inputs,
                  const std::vector<mlx::core::Shape>& output_shapes,
                  const std::vector<mlx::core::Dtype>& output_types);

  using Made = std::vector<mlx::core::array>;  // in the order of the op's outputs
  Made by(const std::shared_ptr<mlx::core::Primitive>& primitive) const;
  // And the primitive, which owns a copy of the cubin and serves all calls of that size.
  std::pair<Made, std::shared_ptr<mlx::core::Primitive>> by_new(const std::string& symbol,
                                                                const std::string& cubin,
                                                                mlx::core::Stream stream) const;

 private:
  Made in_order(const std::vector<mlx::core::array>& made) const;

  const TextStage& stage_;
  std::vector<mlx::core::array> arrays_;
  std::vector<mlx::core::Shape> shapes_;
  std::vector<mlx::core::Dtype> types_;
  std::vector<mlx::core::fast::ScalarArg> numbers_;
  std::vector<size_t> outputs_;  // ports, in the order of the parameters
};

}  // namespace mlx_kd::devices::cuda
