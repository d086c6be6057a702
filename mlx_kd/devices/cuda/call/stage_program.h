// A loaded candidate in CUDA C++: functions that take kd_arguments, launched in stages.
#pragma once

#include <functional>
#include <map>
#include <mutex>

#include "mlx_kd/devices/cuda/call/primitive_cache.h"
#include "mlx_kd/devices/cuda/call/staged_program.h"
#include "mlx_kd/devices/cuda/compile/cuda_source.h"
#include "mlx_kd/devices/cuda/driver/stage_size.h"

namespace mlx_kd::devices::cuda {

// The cubin of a kernel that is compiled alone, when it is first launched. Misuse if it does not
// compile.
using CompileAlone = std::function<std::string(const std::string& func_name)>;

// The functions of a cubin, with what each may be launched with. Thread-safe.
class StageKernels {
 public:
  // `file` is what messages call the source. `alone` gives what the cubin lacks, or is empty; such
  // code stays loaded.
  StageKernels(std::shared_ptr<const Code> code, std::string file, CompileAlone alone);

  struct Entry {
    Function function = nullptr;
    FunctionLimits limits;
  };
  // Misuse where the cubin has no such function.
  const Entry& at(const std::string& func_name) const;

 private:
  Function find(const std::string& func_name) const;

  std::string file_;
  std::shared_ptr<const Code> code_;
  CompileAlone alone_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, Entry> entries_;
};

// The stages of one size, found and checked.
struct StageNodes {
  StageNodes(NativeKernel one, const ArgumentCounts& counts, const KernelArguments& all)
      : kernel(std::move(one)), arguments(counts, all) {}
  struct Node {
    NativeNode launch;
    int64_t index;
    std::vector<spec::TensorMap> maps;
  };
  std::vector<Node> nodes;
  NativeKernel kernel;
  PackedArguments arguments;  // without pointers; the scalars are those of the first call
};

// Calls from several threads are safe.
class StageProgram final : public StagedProgram {
 public:
  // Fails (exit 1) if the GPU does not take the cubin; misuse if it lacks candidate.func_name.
  StageProgram(const std::string& cubin, const spec::Candidate& candidate, CompileAlone alone = {});

  // Through the native module alone: fails (exit 1), with the reason, where it is absent.
  std::vector<mlx::core::array> add_to_graph(const std::vector<mlx::core::array>& inputs,
                                             const std::vector<mlx::core::Shape>& output_shapes,
                                             const Call& call,
                                             const GraphCall& graph) const override;

 private:
  // Of calls that differ in their scalars alone.
  struct Size {
    spec::Dims dims;
    std::vector<spec::Stage> stages;
    std::vector<int64_t> scratch;
    std::vector<spec::ArraySpec> inputs, outputs;
  };

  // Misuse for stages that the chip or a function does not take (stage_size.h).
  std::shared_ptr<const StageNodes> nodes_of(const Call& call) const;
  std::shared_ptr<const StageNodes> make_nodes(const Call& call) const;
  void make_ready(const Call& call) const override { nodes_of(call); }
  std::shared_ptr<const NativeWork> work_for(const Call& call) const override;
  void run(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
           const Call& call, const CallScratch& scratch, Stream stream) const override;

  ArgumentCounts counts_;
  StageKernels kernels_;
  bool waits_;  // its kernels wait by themselves for what runs before them
  mutable Prepared<Size, std::shared_ptr<const StageNodes>> nodes_;
};

}  // namespace mlx_kd::devices::cuda
