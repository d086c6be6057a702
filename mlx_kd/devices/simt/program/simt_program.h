// A loaded candidate in Metal that the executor runs.
#pragma once

#include "mlx_kd/devices/device.h"
#include "mlx_kd/devices/simt/program/call_memory.h"
#include "mlx_kd/devices/simt/program/module.h"

namespace mlx_kd::devices::simt {

// The machine code of a candidate's kernels and what their buffers hold. Immutable: runs from
// several threads are safe.
class SimtCode {
 public:
  // Fails (exit 1) if the object lacks a kernel of the text, or the text the candidate's; misuse if
  // a kernel binds what the op lacks.
  SimtCode(std::shared_ptr<Module> module, const TranslatedText& text,
           const spec::Candidate& candidate);

  // Runs all stages; returns when they are done. Fails (exit 1) if a kernel faults. A body gets
  // inputs that lie at no multiple of 16 bytes as copies.
  void run(CallMemory memory, const Call& call) const;

  const std::string& op_name() const { return candidate_.op_name; }

 private:
  void run_stage(const StageKernel& kernel, const Call& call, const spec::Stage& stage,
                 CallMemory& memory) const;

  std::shared_ptr<Module> module_;
  spec::Candidate candidate_;  // without its source
  std::vector<StageKernel> kernels_;
  std::vector<Entry> entries_;       // of each
  std::vector<std::string> places_;  // of each in the Metal text
  bool is_body_;
};

class SimtProgram final : public Program {
 public:
  explicit SimtProgram(std::shared_ptr<const SimtCode> code) : code_(std::move(code)) {}

  void launch(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
              const Call& call) const override;

  // Runs on the calling thread's default CPU stream. Fails where the number of arrays or a type is
  // not the kernel's. Strided inputs are passed as they lie where they have the port's number of
  // axes; an output that updates an input takes its memory over where MLX gives it up.
  std::vector<mlx::core::array> call(const std::vector<mlx::core::array>& inputs,
                                     const std::vector<spec::Shape>& output_shapes,
                                     const Call& call) const override;
  std::vector<mlx::core::array> add_to_graph(const std::vector<mlx::core::array>& inputs,
                                             const std::vector<mlx::core::Shape>& output_shapes,
                                             const Call& call,
                                             const GraphCall& graph) const override;

 private:
  std::shared_ptr<const SimtCode> code_;
};

// A grid or threadgroup as the executor takes it. Misuse for one that is larger than it takes.
Size3 size3(const std::array<int64_t, 3>& size, const std::string& what);

}  // namespace mlx_kd::devices::simt
