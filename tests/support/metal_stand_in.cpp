// In the program kd_metal_stand_in the device metal is this one, and rmsnorm is the only operator.
// A claim takes as many calls as fit beside MLX's, of which 40 at a time take less than a third of
// a millisecond at the sizes of tests; on the executor as many take seconds. So MLX's form does
// more work here than it has to.
#include "tests/support/metal_stand_in.h"

#include "mlx/ops.h"
#include "mlx_kd/devices/registry.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::devices {
namespace {

DeviceReport probe() {
  return {"metal", true, "a stand-in for metal_kernel, for tests"};
}

std::shared_ptr<const Device> open() {
  return metal::make_metal_device(tests::stand_in_host());
}

std::vector<Finding> examine() {
  return {};
}

}  // namespace

DeviceKind kind_metal();

DeviceKind kind_metal() {
  return {"metal", probe, open, examine, {"metal"}, nullptr, /*copies_updates=*/true};
}

}  // namespace mlx_kd::devices

namespace mlx_kd::kernels {

MakeOp make_rmsnorm;

namespace {

namespace mx = mlx::core;

spec::Op make_rmsnorm_slow_in_mlx() {
  spec::Op op = make_rmsnorm();
  op.mlx = [quick = op.mlx](const spec::Op::Arrays& inputs, std::span<const double> scalars,
                            const mx::Stream& stream) {
    const mx::array square = mx::zeros({256, 256}, mx::float32, stream);
    const mx::array none = mx::sum(mx::matmul(square, square, stream), stream);
    const mx::array y = quick(inputs, scalars, stream)[0];
    return spec::Op::Arrays{mx::add(y, mx::astype(none, y.dtype(), stream), stream)};
  };
  return op;
}

}  // namespace

const std::vector<MakeOp*>& op_makers() {
  static const std::vector<MakeOp*> makers = {make_rmsnorm_slow_in_mlx};
  return makers;
}

}  // namespace mlx_kd::kernels
