// What every kernel of ours that runs on CPU memory has in common as an MLX operation.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "mlx/primitives.h"
#include "mlx_kd/devices/device.h"

namespace mlx_kd::devices::cpu {

inline constexpr size_t kMostArrays = 32;  // inputs and outputs of one operation together

// Inputs first, then outputs.
using Pointers = std::array<void*, kMostArrays>;

// Evaluated on its CPU stream's thread, as MLX's own operations are. vjp, jvp and vmap are those of
// the graft's form; without one they throw what MLX throws for an operation without them. Shapes
// are fixed when the operation is made: evaluating it with inputs of another size, as a shapeless
// mx::compile would, throws.
class HostPrimitive : public mlx::core::Primitive,
                      public std::enable_shared_from_this<HostPrimitive> {
 public:
  HostPrimitive(const Graft& graft, const std::vector<mlx::core::array>& inputs,
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

 protected:
  // Computes the outputs; on the stream's thread.
  virtual void run(const Pointers& pointers) const = 0;
  // Whether run() would do anything, given that some output has elements.
  virtual bool has_work() const { return true; }
  // Whether inputs that are not row-contiguous are copied first; else they are passed as they lie.
  virtual bool wants_contiguous() const { return true; }

  // The call's runtime inputs, for the graft's form.
  virtual std::span<const double> params() const = 0;

  // Equal shapes and the same form.
  bool same_graft(const HostPrimitive& other) const;
  size_t input_count() const { return input_count_; }
  size_t output_count() const { return output_shapes_.size(); }
  // Throws where the sizes are not those that the kernel was made for.
  void check_sizes(const std::vector<mlx::core::array>& inputs) const;

 private:
  // The form as a function of the inputs alone; valid while this lives.
  std::function<std::vector<mlx::core::array>(const std::vector<mlx::core::array>&)> form();

  const MlxForm* form_;
  size_t input_count_;
  std::array<size_t, kMostArrays> input_sizes_ = {};  // elements
  std::vector<mlx::core::Shape> output_shapes_;
};

}  // namespace mlx_kd::devices::cpu
