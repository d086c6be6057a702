#include "mlx_kd/kernels/common/mlx_forms.h"

#include <mlx/ops.h>

#include <cmath>
#include <numbers>

namespace mlx_kd::kernels {

namespace mx = mlx::core;

mx::array gelu_in_mlx(const mx::array& x, const mx::Stream& s) {
  const auto number = [&](double value) { return mx::array(static_cast<float>(value), x.dtype()); };
  const mx::array cube = mx::multiply(number(0.044715), mx::power(x, number(3), s), s);
  const mx::array inner =
      mx::multiply(number(std::sqrt(2 / std::numbers::pi)), mx::add(x, cube, s), s);
  return mx::multiply(mx::multiply(number(0.5), x, s), mx::add(number(1), mx::tanh(inner, s), s),
                      s);
}

}  // namespace mlx_kd::kernels
