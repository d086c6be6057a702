// What the programs of the device cuda have in common: a call is a list of stages that share
// scratch memory.
#pragma once

#include <array>
#include <mutex>
#include <vector>

#include "mlx_kd/devices/cuda/call/native_primitive.h"
#include "mlx_kd/devices/cuda/call/primitive_cache.h"
#include "mlx_kd/devices/cuda/driver/queued_program.h"

namespace mlx_kd::devices::cuda {

// Uninitialised memory for launches outside of MLX. Outgrown memory stays: a recorded graph may
// hold it.
class CallScratch {
 public:
  void reserve(const std::vector<int64_t>& wanted);
  const std::array<void*, spec::kMostScratch>& memory() const { return memory_; }

 private:
  std::vector<Memory> kept_;
  std::array<size_t, spec::kMostScratch> bytes_ = {};
  std::array<void*, spec::kMostScratch> memory_ = {};
};

// Runs on our own stream.
// `may_overlap`: a node that is `early` may start while the one before it on the stream still runs.
void launch_node(const NativeNode& node, void** parameters, Stream stream,
                 bool may_overlap = false);

// Fails (exit 1), with the reason, where the module is absent; `what` cannot do without it.
const NativeApi& require_native(const std::string& what);

// Whether calls of one program launch the same: the sizes of their arrays are those of their dims.
bool same_call(const Call& a, const Call& b);

// Calls from several threads are safe. The code stays loaded once MLX's graphs may hold it.
class StagedProgram : public QueuedProgram {
 public:
  // Misuse for stages that the chip or a function does not take.
  void launch(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
              const Call& call) const final;
  void prepare(const Call& call) const final;
  void queue(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
             const Call& call, Stream stream) const final;
  // add_to_graph on the default GPU stream.
  std::vector<mlx::core::array> call(const std::vector<mlx::core::array>& inputs,
                                     const std::vector<spec::Shape>& output_shapes,
                                     const Call& call) const final;

 protected:
  StagedProgram(std::string op_name, std::shared_ptr<const Code> code)
      : op_name_(std::move(op_name)), code_(std::move(code)) {}

  // Makes what run() and calls of that size share.
  virtual void make_ready(const Call& call) const = 0;
  // What a primitive launches for the call.
  virtual std::shared_ptr<const NativeWork> work_for(const Call& call) const = 0;
  // Queues all stages.
  virtual void run(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
                   const Call& call, const CallScratch& scratch, Stream stream) const = 0;

  const std::string& op_name() const { return op_name_; }
  const std::shared_ptr<const Code>& code() const { return code_; }
  // The call as an operation of MLX, by the primitive of an equal one where there was one.
  std::vector<mlx::core::array> in_graph(const NativeApi& api, const GraphCall& graph,
                                         const std::vector<mlx::core::array>& inputs,
                                         const std::vector<mlx::core::Shape>& output_shapes,
                                         const Call& call) const;

 private:
  struct InGraph {
    Call call;
    GraphCall graph;
    std::vector<mlx::core::Shape> output_shapes;
  };

  std::string op_name_;
  std::shared_ptr<const Code> code_;
  OwnStream stream_;
  mutable Prepared<InGraph, std::shared_ptr<NativePrimitive>> primitives_;
  mutable std::mutex mutex_;
  mutable CallScratch launched_, queued_;
  mutable std::once_flag kept_;
};

}  // namespace mlx_kd::devices::cuda
