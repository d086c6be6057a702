// mx.fast.metal_kernel on every device: a Metal body and header, called on MLX arrays.
#pragma once

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "mlx/fast.h"

namespace mlx_kd::devices {

// As mlx::core::fast::metal_kernel takes them.
struct MetalKernelText {
  std::string name;
  std::vector<std::string> input_names, output_names;
  std::string source, header = {};
  bool ensure_row_contiguous = true;
  bool atomic_outputs = false;
  mlx::core::CompileOptions options = {};  // Metal's alone: elsewhere math is as precise as asked
};

struct MetalKernelCall {
  std::vector<mlx::core::array> inputs;
  std::vector<mlx::core::Shape> output_shapes;
  std::vector<mlx::core::Dtype> output_dtypes;
  std::tuple<int, int, int> grid, threadgroup;  // both count threads
  std::vector<std::pair<std::string, mlx::core::fast::TemplateArg>> templates = {};
  std::optional<float> init_value = std::nullopt;  // of the outputs; none: not initialised
  bool verbose = false;                            // the generated source on stdout
  mlx::core::StreamOrDevice stream = {};
};

// Lazy: the outputs are computed when they are evaluated, on the stream's device. On a CPU by the
// executor (devices/simt), on NVIDIA translated to CUDA, on a Mac by MLX itself. Compiled at the
// call, once per process and text, and kept on disk. Calls from several threads are safe.
//
// std::invalid_argument, in MLX's words, for what MLX refuses; misuse (exit 2) that names file,
// line and column of the Metal text for what Metal refuses, for a grid or threadgroup of 0, for
// more than 1,024 threads per group and for outputs that overflow.
class MetalKernel {
 public:
  explicit MetalKernel(MetalKernelText text);

  std::vector<mlx::core::array> operator()(const MetalKernelCall& call) const;

  const MetalKernelText& text() const { return text_; }

 private:
  MetalKernelText text_;
};

}  // namespace mlx_kd::devices
