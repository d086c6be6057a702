// What our kernels on CPU memory have in common as an MLX operation.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "mlx/primitives.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/devices/kernel_arguments.h"

namespace mlx_kd::devices::cpu {

// Inputs and outputs of one operation together; a metal_kernel may have more than an operator.
inline constexpr size_t kMostArrays = 48;

// Inputs first, then outputs.
using Pointers = std::span<void* const>;

// An output that updates an input takes over the input's memory if only tasks queued earlier still
// hold it (memory/queued_holds.h); otherwise it starts as a copy.
//
// Evaluated on its CPU stream's thread, as MLX's own operations are. vjp, jvp and vmap are those of
// the graph's form; without one they throw what MLX throws for an operation without them. Shapes
// are fixed when the operation is made: evaluating it with inputs of another size, as a shapeless
// mx::compile would, throws.
class HostPrimitive : public mlx::core::Primitive,
                      public std::enable_shared_from_this<HostPrimitive> {
 public:
  HostPrimitive(const GraphCall& graph, const std::vector<mlx::core::array>& inputs,
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
  // Computes the outputs; on the stream's thread. `strides`: of each input as its port has axes,
  // where some port is strided; else null. An output that updates an input has the input's pointer,
  // and holds its elements.
  virtual void run(const Pointers& pointers, const Strides* strides) const = 0;
  // Each output of an operation holds all of its inputs. All but those that MLX passes are let go,
  // as MLX does itself after the evaluation: an input that two outputs hold could not be taken
  // over.
  static void hold_inputs_once(const std::vector<mlx::core::array>& inputs,
                               std::vector<mlx::core::array>& outputs);
  // Whether run() would do anything, given that some output has elements.
  virtual bool has_work() const { return true; }
  // Whether inputs that are not row-contiguous are copied first; else they are passed as they lie.
  virtual bool wants_contiguous() const { return true; }
  // As Call has them.
  virtual int updated_input(size_t /*output*/) const { return -1; }
  virtual size_t strided_axes(size_t /*input*/) const { return 0; }
  // Of an input that is row-major, by the axes of its port.
  virtual Strides port_strides(size_t /*input*/) const { return {}; }

  // The call's runtime inputs, for the graph's form.
  virtual std::span<const double> params() const = 0;

  // Equal shapes and the same form.
  bool same_graph(const HostPrimitive& other) const;
  size_t input_count() const { return input_count_; }
  size_t output_count() const { return output_shapes_.size(); }
  // Throws where the sizes are not those that the kernel was made for.
  void check_sizes(const std::vector<mlx::core::array>& inputs) const;

 private:
  struct Task;
  class Placement;
  bool any_strided() const;
  bool has_sizes_of(const HostPrimitive& other) const;
  using Form = std::function<std::vector<mlx::core::array>(const std::vector<mlx::core::array>&)>;
  // The form as a function of the inputs alone, or of some of them; valid while this lives.
  Form form();
  Form form_of(const std::vector<mlx::core::array>& primals, const std::vector<int>& argnums);

  const MlxForm* form_;
  const VjpForm* vjp_;
  size_t input_count_;
  std::array<size_t, kMostArrays> input_sizes_;  // elements of the first input_count_
  std::vector<mlx::core::Shape> output_shapes_;
};

}  // namespace mlx_kd::devices::cpu
