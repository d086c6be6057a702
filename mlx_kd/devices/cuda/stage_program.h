// A loaded candidate in CUDA C++: functions that take kd_arguments, launched in stages.
#pragma once

#include <map>
#include <mutex>

#include "mlx_kd/devices/cuda/cuda_source.h"
#include "mlx_kd/devices/cuda/native_primitive.h"
#include "mlx_kd/devices/cuda/primitive_cache.h"
#include "mlx_kd/devices/cuda/queued_program.h"

namespace mlx_kd::devices::cuda {

// The functions of a cubin, with what each may be launched with. Thread-safe.
class StageKernels {
 public:
  StageKernels(const std::string& cubin, const CudaSource& source);

  struct Entry {
    Function function = nullptr;
    FunctionLimits limits;
  };
  // Misuse where the cubin has no such function.
  const Entry& at(const std::string& func_name) const;
  const std::shared_ptr<const Code>& code() const { return code_; }

 private:
  std::string file_;
  std::shared_ptr<const Code> code_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, Entry> entries_;
};

// The stages of one size, found and checked.
struct StageNodes {
  struct Node {
    NativeNode launch;
    int64_t index;
  };
  std::vector<Node> nodes;
  NativeKernel kernel;
};

// Calls from several threads are safe.
class StageProgram final : public QueuedProgram {
 public:
  // Fails (exit 1) if the GPU does not take the cubin; misuse if it lacks source.func_name.
  StageProgram(const std::string& cubin, CudaSource source);

  void launch(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
              const Call& call) const override;
  void prepare(const Call& call) const override;
  void queue(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
             const Call& call, Stream stream) const override;
  // Through the native module alone: fails (exit 1), with the reason, where it is absent.
  std::vector<mlx::core::array> call(const std::vector<mlx::core::array>& inputs,
                                     const std::vector<spec::Shape>& output_shapes,
                                     spec::Dtype output_dtype, const Call& call) const override;
  std::vector<mlx::core::array> graft(const std::vector<mlx::core::array>& inputs,
                                      const std::vector<mlx::core::Shape>& output_shapes,
                                      spec::Dtype output_dtype, const Call& call,
                                      const Graft& graft) const override;

  // The same for plans of any number of stages.
  void launch_plan(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
                   const LaunchPlan& plan) const;
  void prepare_plan(const LaunchPlan& plan) const;
  void queue_plan(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
                  const LaunchPlan& plan, Stream stream) const;
  // Output types are those of the ports. Fails where the number of arrays or a type is not the
  // kernel's.
  std::vector<mlx::core::array> apply(const std::vector<mlx::core::array>& inputs,
                                      const std::vector<mlx::core::Shape>& output_shapes,
                                      const LaunchPlan& plan, const Graft& graft) const;

 private:
  // Stages of one size, whatever the numbers of a call.
  struct Size {
    std::vector<PlanStage> stages;
    std::vector<int64_t> scratch_bytes;
    bool operator==(const Size&) const = default;
  };
  // Uninitialised memory for launches outside of MLX. Outgrown memory stays: a recorded graph may
  // hold it.
  struct Scratch {
    std::vector<Memory> kept;
    std::array<size_t, kMostScratch> bytes = {};
    std::array<void*, kMostScratch> memory = {};
    void reserve(const std::vector<int64_t>& wanted);
  };

  std::shared_ptr<const StageNodes> nodes_of(const LaunchPlan& plan) const;
  void check_arrays(const std::vector<mlx::core::array>& inputs, size_t outputs) const;
  void run(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
           const LaunchPlan& plan, const Scratch& scratch, Stream stream) const;

  CudaSource source_;
  std::vector<mlx::core::Dtype> output_types_;
  StageKernels kernels_;
  OwnStream stream_;
  mutable Prepared<Size, std::shared_ptr<const StageNodes>> nodes_;
  mutable std::mutex mutex_;
  mutable Scratch launched_, queued_;
  mutable std::once_flag kept_;
};

}  // namespace mlx_kd::devices::cuda
