#include "mlx_kd/devices/cpu/kernel_primitive.h"

namespace mlx_kd::devices::cpu {

namespace mx = mlx::core;

KernelPrimitive::KernelPrimitive(const GraphCall& graph, std::shared_ptr<const KernelCode> code,
                                 const FlatCall& call, const std::vector<mx::array>& inputs,
                                 const std::vector<mx::Shape>& output_shapes)
    : HostPrimitive(graph, inputs, output_shapes), code_(std::move(code)), call_(call) {}

void KernelPrimitive::run(const Pointers& pointers, const Strides* strides) const {
  code_->run(pointers.data(), pointers.data() + code_->input_count(), call_, strides);
}

// mx::compile loses arrays when it merges equal operations of several outputs (MLX 0.32.4, its own
// divmod too), so those are never equivalent.
bool KernelPrimitive::is_equivalent(const Primitive& other) const {
  if (output_count() != 1) return false;
  const auto* same = dynamic_cast<const KernelPrimitive*>(&other);
  return same && same->code_ == code_ && same->call_ == call_ && same_graph(*same);
}

}  // namespace mlx_kd::devices::cpu
