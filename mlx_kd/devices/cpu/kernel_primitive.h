// A kernel as an MLX operation.
#pragma once

#include <memory>
#include <vector>

#include "mlx_kd/devices/cpu/kernel_code.h"
#include "mlx_kd/devices/host/host_primitive.h"

namespace mlx_kd::devices::cpu {

class KernelPrimitive final : public HostPrimitive {
 public:
  KernelPrimitive(const GraphCall& graph, std::shared_ptr<const KernelCode> code,
                  const FlatCall& call, const std::vector<mlx::core::array>& inputs,
                  const std::vector<mlx::core::Shape>& output_shapes);

  bool is_equivalent(const Primitive& other) const override;
  const char* name() const override { return code_->op_name().c_str(); }

 private:
  void run(const Pointers& pointers, const Strides* strides) const override;
  bool has_work() const override { return call_.has_work(); }
  int updated_input(size_t output) const override {
    return call_.staged ? call_.staged->updates[output] : -1;
  }
  size_t strided_axes(size_t input) const override {
    return call_.staged ? call_.staged->strided_axes[input] : 0;
  }
  Strides port_strides(size_t input) const override {
    return call_.staged->arguments.strides[input];
  }
  std::span<const double> params() const override { return call_.params; }

  std::shared_ptr<const KernelCode> code_;
  FlatCall call_;
};

}  // namespace mlx_kd::devices::cpu
