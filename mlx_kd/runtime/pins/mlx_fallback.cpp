#include "mlx_kd/runtime/pins/mlx_fallback.h"

#include <mlx/fast.h>
#include <mlx/ops.h>

namespace mlx_kd::runtime {
namespace mx = mlx::core;

mx::array rmsnorm_in_mlx(const mx::array& x, const mx::array& weight, double eps,
                         const mx::StreamOrDevice& s) {
  return mx::fast::rms_norm(x, weight, static_cast<float>(eps), s);
}

std::pair<mx::array, mx::array> rmsnorm_residual_in_mlx(const mx::array& x,
                                                        const mx::array& residual,
                                                        const mx::array& weight, double eps,
                                                        const mx::StreamOrDevice& s) {
  mx::array updated = mx::add(x, residual, s);
  mx::array y = rmsnorm_in_mlx(updated, weight, eps, s);
  return {std::move(y), std::move(updated)};
}

mx::array swiglu_in_mlx(const mx::array& gate, const mx::array& up, const mx::StreamOrDevice& s) {
  return mx::multiply(mx::multiply(gate, mx::sigmoid(gate, s), s), up, s);
}

}  // namespace mlx_kd::runtime
