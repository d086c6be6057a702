// The stages of a call as calls of metal_kernel.
//
// What a kernel of metal_kernel writes is new memory, and MLX runs two of them in order where one
// takes what the other gave. An array that only one stage writes is an output of that stage. One
// that several stages write, scratch memory, and an output that updates an input are memory of the
// chain: a stage gets them as inputs and writes them through a cast. Each stage takes an output of
// the stage before it. MLX does not know that such memory changed, so it is copied at the end, and
// an updated input before the first stage: an updated port costs two copies.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <set>

#include "mlx_kd/devices/metal/metal_device.h"
#include "mlx_kd/devices/metal_text/metal_arguments.h"

namespace mlx_kd::devices::metal {

// Functions of metal_kernel by what their text depends on: calls of one size differ in their arrays
// alone, and writing the text of a stage takes longer than all else of a call. Thread-safe.
class MadeKernels {
 public:
  using Function = mlx::core::fast::CustomKernelFunction;

  Function find_or_make(const std::string& key, const std::function<Function()>& make);

 private:
  std::mutex mutex_;
  std::map<std::string, Function> made_;
};

class StageChain {
 public:
  using Arrays = std::vector<mlx::core::array>;

  // Strided inputs that are computed already and contiguous in their last axis are passed as they
  // lie; all others row-major. `made`: of the candidate.
  StageChain(const MetalHost& host, const msl::Unit& unit, const spec::Candidate& candidate,
             const Arrays& inputs, const std::vector<mlx::core::Shape>& output_shapes,
             const Call& call, MadeKernels& made);

  // Before the first stage, with the kernels of all: which arrays are memory of the chain.
  void note_writers(const std::vector<const StageKernel*>& kernels);

  // Adds one stage; one without threads adds nothing. Misuse, with the place in the Metal text, for
  // a kernel that has no body form.
  void run(const StageKernel& kernel, const spec::Stage& stage);

  // The outputs, lazy. What no stage had threads for is 0, or the input that it updates.
  Arrays results();

 private:
  // An output or a scratch array.
  struct Memory {
    std::string name;
    mlx::core::Shape shape;  // the call's
    mlx::core::Dtype type;
    int updates = -1;                          // an input
    bool shared = false;                       // memory of the chain
    std::optional<mlx::core::array> now = {};  // nothing: not written yet

    size_t elements() const;
    // Of the array that MLX allocates: memory of the chain is flat, and has at least 8 elements,
    // because metal_kernel passes smaller inputs in another address space.
    mlx::core::Shape allocated() const;
  };
  struct StageCall;

  void add_arguments(const StageKernel& kernel, const spec::Stage& stage, StageCall& to);
  void add_memory(Memory& memory, const MetalArgument& argument, StageCall& to);
  Memory* memory_of(const MetalArgument& argument);
  MadeKernels::Function function_of(const StageKernel& kernel, const StageCall& made);
  void start(const StageKernel& kernel, const spec::Stage& stage, StageCall& made);
  mlx::core::array copy(const mlx::core::array& from, size_t elements,
                        const mlx::core::Shape& shape);

  const MetalHost& host_;
  const msl::Unit& unit_;
  const spec::Candidate& candidate_;
  const Call& call_;
  MadeKernels& made_;
  mlx::core::Stream stream_;
  Arrays inputs_;
  bool as_they_lie_ = false;  // some input is not row-major
  std::vector<Memory> outputs_, scratch_;
  std::optional<mlx::core::array> last_;  // an output of the last stage
};

// A grid or threadgroup as metal_kernel takes it. Fails (exit 1) beyond 2^31 - 1.
std::tuple<int, int, int> threads3(const std::array<int64_t, 3>& given);

}  // namespace mlx_kd::devices::metal
