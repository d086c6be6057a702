// A loaded candidate in Metal that runs on the GPU.
#pragma once

#include <array>
#include <tuple>
#include <variant>

#include "mlx_kd/devices/cuda/cuda_compiler.h"
#include "mlx_kd/devices/cuda/native_primitive.h"
#include "mlx_kd/devices/cuda/primitive_cache.h"
#include "mlx_kd/devices/cuda/queued_program.h"
#include "mlx_kd/devices/metal_text/metal_arguments.h"

namespace mlx_kd::devices::cuda {

// (The name Program is taken by NVRTC's in this namespace.) Calls from several threads are safe.
class CudaProgram final : public QueuedProgram {
 public:
  // Misuse if the kernel binds what the op lacks, or an input as one that is written. Fails (exit
  // 1) if the GPU does not take the cubin.
  CudaProgram(std::string cubin, const CudaKernel& kernel, const spec::Candidate& candidate);

  // Arrays in the GPU's memory. Fails (exit 1) if the kernel faults.
  void launch(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
              const Call& call) const override;

  // On the default GPU stream. Inputs that do not start at a multiple of 16 bytes, as slices may,
  // are copied first. Fails where MLX has no CUDA, and where the number of arrays or a type is not
  // the kernel's.
  std::vector<mlx::core::array> call(const std::vector<mlx::core::array>& inputs,
                                     const std::vector<spec::Shape>& output_shapes,
                                     const Call& call) const override;
  // As a node of MLX's graph where the native module is, else through MLX's precompiled kernels:
  // then MLX's primitive, which owns a copy of the cubin, is made by the first call of a size and
  // serves the others.
  std::vector<mlx::core::array> add_to_graph(const std::vector<mlx::core::array>& inputs,
                                             const std::vector<mlx::core::Shape>& output_shapes,
                                             const Call& call,
                                             const GraphCall& graph) const override;

  void prepare(const Call&) const override {}
  void queue(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
             const Call& call, Stream stream) const override;

 private:
  using Scalar = std::variant<bool, int, float>;
  std::vector<Scalar> scalars(const Call& call) const;
  void check_call(const std::vector<mlx::core::array>& inputs, size_t outputs,
                  const Call& call) const;

  // What all calls of one size on one stream share.
  struct Size {
    Call call;
    mlx::core::Stream stream;
    bool operator==(const Size& other) const;
  };
  std::shared_ptr<const NativeWork> work_of(const Call& call) const;
  std::vector<mlx::core::array> precompiled(const std::vector<mlx::core::array>& inputs,
                                            const std::vector<mlx::core::Shape>& output_shapes,
                                            const Size& size) const;
  // The first call of a size; arrays in the order of the parameters.
  std::vector<mlx::core::array> make_precompiled(const std::vector<mlx::core::array>& inputs,
                                                 const std::vector<mlx::core::Shape>& output_shapes,
                                                 const Size& size) const;

  std::string cubin_, symbol_, op_name_;
  std::vector<MetalArgument> arguments_;
  std::vector<msl::CudaParameter> layout_;
  std::vector<size_t> input_order_, output_order_;  // ports, in the order of the parameters
  std::shared_ptr<const Code> code_;
  Function function_;
  OwnStream stream_;
  mutable Prepared<Size> prepared_;
  mutable Prepared<Call, std::shared_ptr<const NativeWork>> works_;
  mutable std::once_flag kept_;
};

// The array, or a copy where it may not start at a multiple of 16 bytes.
mlx::core::array aligned(const mlx::core::array& array);

// A size as MLX passes it to its precompiled kernels.
std::tuple<int, int, int> three(const std::array<unsigned, 3>& size);

}  // namespace mlx_kd::devices::cuda
