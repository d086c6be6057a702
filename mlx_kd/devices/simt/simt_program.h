// A loaded candidate in Metal that the executor runs.
#pragma once

#include "mlx_kd/devices/device.h"
#include "mlx_kd/devices/metal_text/metal_source.h"
#include "mlx_kd/devices/simt/module.h"

namespace mlx_kd::devices::simt {

// The machine code of one kernel and what its buffers hold. Immutable: runs from several threads
// are safe.
class SimtCode {
 public:
  // Fails (exit 1) if the object lacks the kernel; misuse if the kernel binds what the op lacks.
  SimtCode(std::shared_ptr<Module> module, const msl::Kernel& kernel, const msl::SourceSet& sources,
           const spec::Candidate& candidate);

  // Returns when the kernel is done. Fails (exit 1) if it faults. input_bytes: of each input; a
  // body gets inputs that lie at no multiple of 16 bytes as copies.
  void run(const void* const* inputs, void* const* outputs, const std::vector<size_t>& input_bytes,
           const Call& call) const;

  const std::string& op_name() const { return op_name_; }

 private:
  std::shared_ptr<Module> module_;
  Entry entry_;
  std::vector<MetalArgument> arguments_;
  std::string op_name_, place_;  // place_: of the kernel in the Metal text
  bool is_body_;
};

class SimtProgram final : public Program {
 public:
  explicit SimtProgram(std::shared_ptr<const SimtCode> code) : code_(std::move(code)) {}

  void launch(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
              const Call& call) const override;

  // Runs on the calling thread's default CPU stream. Fails where the number of arrays or a type is
  // not the kernel's.
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
