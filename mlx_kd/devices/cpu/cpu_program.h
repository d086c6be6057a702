// A loaded CPU kernel.
#pragma once

#include "mlx_kd/devices/cpu/kernel_code.h"
#include "mlx_kd/devices/device.h"

namespace mlx_kd::devices::cpu {

class CpuProgram final : public Program {
 public:
  explicit CpuProgram(std::shared_ptr<const KernelCode> code) : code_(std::move(code)) {}

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
  std::vector<mlx::core::array> add(const std::vector<mlx::core::array>& inputs,
                                    const std::vector<mlx::core::Shape>& output_shapes,
                                    const Call& call, const FlatCall& flat,
                                    const GraphCall& graph) const;
  std::shared_ptr<const KernelCode> code_;
};

}  // namespace mlx_kd::devices::cpu
