// A loaded candidate in Metal that runs on the GPU.
#pragma once

#include "mlx_kd/devices/cuda/call/primitive_cache.h"
#include "mlx_kd/devices/cuda/call/staged_program.h"
#include "mlx_kd/devices/cuda/call/text_work.h"
#include "mlx_kd/devices/cuda/compile/cuda_compiler.h"
#include "mlx_kd/devices/metal_text/metal_arguments.h"

namespace mlx_kd::devices::cuda {

// A kernel of the text, as its stages are launched.
struct TextKernel {
  StageKernel metal;
  std::vector<msl::CudaParameter> layout;
  std::string symbol;
  Function function = nullptr;
};

// Calls from several threads are safe.
class CudaProgram final : public StagedProgram {
 public:
  // Misuse if a kernel binds what the op lacks, or an input that no output updates as one that is
  // written. Fails (exit 1) if the GPU does not take the cubin.
  CudaProgram(std::string cubin, const CandidateText& text, const spec::Candidate& candidate);

  // As nodes of MLX's graph where the native module is. Without it a call of one stage goes through
  // MLX's precompiled kernels, unless it needs scratch memory, strides or an array to update: MLX's
  // primitive, which owns a copy of the cubin, is made by the first call of a size and serves the
  // others.
  //
  // Inputs that do not start at a multiple of 16 bytes, as slices may, are copied first. Fails
  // where MLX has no CUDA, and where the number of arrays or a type is not the kernel's.
  std::vector<mlx::core::array> add_to_graph(const std::vector<mlx::core::array>& inputs,
                                             const std::vector<mlx::core::Shape>& output_shapes,
                                             const Call& call,
                                             const GraphCall& graph) const override;

 private:
  // What all calls of one size on one stream share.
  struct Size {
    Call call;
    mlx::core::Stream stream;
    bool operator==(const Size& other) const;
  };
  void make_ready(const Call& call) const override { work_of(call); }
  std::shared_ptr<const NativeWork> work_for(const Call& call) const override {
    return work_of(call);
  }
  void run(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
           const Call& call, const CallScratch& scratch, Stream stream) const override;
  std::shared_ptr<const TextWork> work_of(const Call& call) const;
  TextStage stage_of(const TextKernel& kernel, const Call& call, const spec::Stage& stage) const;
  LaunchSize launch_size_of(const spec::Launch& launch) const;
  void check_call(const std::vector<mlx::core::array>& inputs, size_t outputs,
                  const Call& call) const;

  // Through MLX's precompiled kernels, on graph.stream.
  std::vector<mlx::core::array> precompiled(const std::vector<mlx::core::array>& inputs,
                                            const std::vector<mlx::core::Shape>& output_shapes,
                                            const Size& size) const;

  std::string cubin_;
  spec::Candidate candidate_;        // without its source
  std::vector<StageKernel> metal_;   // what stages may call
  std::vector<TextKernel> kernels_;  // of each
  bool whole_lines_;
  mutable Prepared<Size> prepared_;
  mutable Prepared<Call, std::shared_ptr<const TextWork>> works_;
};

}  // namespace mlx_kd::devices::cuda
