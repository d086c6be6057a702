// A kernel as an MLX operation.
#pragma once

#include <memory>
#include <vector>

#include "mlx/primitives.h"
#include "mlx_kd/devices/cpu/kernel_code.h"

namespace mlx_kd::devices::cpu {

// Evaluated on its CPU stream's thread, as MLX's own operations are. Inputs that are not
// row-contiguous are copied first. vjp, jvp and vmap are those of the graft's form; without one
// they throw what MLX throws for an operation without them. Shapes are fixed when the operation is
// made: evaluating it with inputs of another size, as a shapeless mx::compile would, throws.
class KernelPrimitive final : public mlx::core::Primitive,
                              public std::enable_shared_from_this<KernelPrimitive> {
 public:
  KernelPrimitive(const Graft& graft, std::shared_ptr<const KernelCode> code, const FlatCall& call,
                  const std::vector<mlx::core::array>& inputs,
                  const std::vector<mlx::core::Shape>& output_shapes);

  void eval_cpu(const std::vector<mlx::core::array>& inputs,
                std::vector<mlx::core::array>& outputs) override;
  void eval_gpu(const std::vector<mlx::core::array>& inputs,
                std::vector<mlx::core::array>& outputs) override;
  std::vector<mlx::core::array> vjp(const std::vector<mlx::core::array>& primals,
                                    const std::vector<mlx::core::array>& cotangents,
                                    const std::vector<int>& argnums,
                                    const std::vector<mlx::core::array>& outputs) override;
  std::vector<mlx::core::array> jvp(const std::vector<mlx::core::array>& primals,
                                    const std::vector<mlx::core::array>& tangents,
                                    const std::vector<int>& argnums) override;
  std::pair<std::vector<mlx::core::array>, std::vector<int>> vmap(
      const std::vector<mlx::core::array>& inputs, const std::vector<int>& axes) override;
  std::vector<mlx::core::Shape> output_shapes(const std::vector<mlx::core::array>& inputs) override;
  bool is_equivalent(const Primitive& other) const override;
  const char* name() const override { return code_->op_name().c_str(); }

 private:
  // The graft's form as a function of the inputs alone; valid while this lives.
  std::function<std::vector<mlx::core::array>(const std::vector<mlx::core::array>&)> form();
  void check_sizes(const std::vector<mlx::core::array>& inputs) const;

  std::shared_ptr<const KernelCode> code_;
  FlatCall call_;
  const MlxForm* form_;
  std::array<size_t, kMostPorts> input_sizes_ = {};  // elements
  std::vector<mlx::core::Shape> output_shapes_;
};

}  // namespace mlx_kd::devices::cpu
