#include <mlx/ops.h>

#include <cmath>
#include <limits>

#include "mlx_kd/kernels/activations/soft_cap/space.h"
#include "mlx_kd/kernels/common/reference64.h"
#include "mlx_kd/kernels/common/suites.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_soft_cap_vjp();

namespace soft_cap_vjp {
namespace {

using spec::Dims;
using spec::Dtype;

spec::ErrorBound bound(const Dims&) {
  return {
      16,
      "The result is rounded to the type. S is |dy| (1 + tanh^2), the two terms. In float32: of "
      "1 - tanh^2, 2 for x / cap and tanh each, doubled by the square, 1 each for the square, the "
      "difference and the product; of dy 4 e / (1 + e)^2, e = exp(-2 |x| / cap), which is at most "
      "|dy|: 4 for the polynomial and its evaluation, 1 for 2 |x| / cap, 4 for 1 + e and its "
      "square, 3 for the quotient, 1 for the product."};
}

std::vector<spec::Reference64> reference(const std::vector<const void*>& inputs, Dtype dtype,
                                         const Dims& dims, const std::vector<double>& scalars) {
  const std::vector<double> x = load_all(inputs[0], dims.at("N"), dtype);
  const std::vector<double> dy = load_all(inputs[1], dims.at("N"), dtype);
  spec::Reference64 result;
  for (size_t i = 0; i < x.size(); ++i) {
    const double t = std::tanh(x[i] / scalars[0]), c = std::cosh(x[i] / scalars[0]);
    const double dx = dy[i] / (c * c), size = std::fabs(dy[i]);
    append(result, {dx, std::fabs(dx), size * (1 + t * t), size * 0x1p-125 + underflow(dtype)});
  }
  return {std::move(result)};
}

spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double> scalars,
                          const mlx::core::Stream& s) {
  namespace mx = mlx::core;
  const mx::array cap(static_cast<float>(scalars[0]), in[0].dtype());
  const mx::array one(1.0f, in[0].dtype());
  const mx::array t = mx::tanh(mx::divide(in[0], cap, s), s);
  return {mx::multiply(in[1], mx::subtract(one, mx::multiply(t, t, s), s), s)};
}

// Pairs of x and dy: infinities, NaN, zeros and subnormals of either, and x of both saturated ends.
void add_special_values(const std::vector<void*>& inputs, Dtype dtype, const Dims& dims) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const double tiny = spec::smallest_subnormal(dtype);
  const double pairs[][2] = {{kInfinity, 1}, {-kInfinity, -1},  {kNan, 1},
                             {1, kNan},      {1, kInfinity},    {-1, -kInfinity},
                             {0, -0.0},      {-0.0, 1},         {kInfinity, -kInfinity},
                             {tiny, 1},      {1, -tiny},        {10000, 2},
                             {-10000, 2},    {kNan, kInfinity}, {300, 1000}};
  int64_t at = 0;
  for (const auto& [x, dy] : pairs) {
    if (at >= dims.at("N")) return;
    spec::store_element(inputs[0], at, dtype, static_cast<float>(x));
    spec::store_element(inputs[1], at++, dtype, static_cast<float>(dy));
  }
}

}  // namespace
}  // namespace soft_cap_vjp

spec::Op make_soft_cap_vjp() {
  using namespace soft_cap_vjp;
  spec::Op op;
  op.name = "soft_cap_vjp";
  op.summary = "dx = dy (1 - tanh(x / cap)^2), the gradient of soft_cap";
  op.doc.hidden = true;
  op.inputs = {{"inp", rows_by_d}, {"dout", rows_by_d}};
  op.outputs = {{"dinp", rows_by_d}};
  soft_cap::add_sizes(op);
  op.cost = [](const Dims& dims, Dtype dtype) {
    const auto n = static_cast<double>(dims.at("N"));
    return spec::Cost{3 * n * static_cast<double>(spec::size_of(dtype)), 20 * n};
  };
  op.mlx = mlx_form;
  op.add_special_values = add_special_values;
  op.reference = reference;
  op.bound = bound;
  op.variants = soft_cap::variants("soft_cap_vjp");
  return op;
}

}  // namespace mlx_kd::kernels
