#include "mlx_kd/runtime/pins/mlx_fallback.h"

#include <mlx/fast.h>
#include <mlx/ops.h>

namespace mlx_kd::runtime {
namespace {

namespace mx = mlx::core;

using Arrays = std::vector<mx::array>;
using Params = std::span<const double>;

Arrays rmsnorm(const Arrays& in, Params params, const mx::Stream& s) {
  return {rmsnorm_in_mlx(in[0], in[1], params[0], s)};
}

Arrays rmsnorm_residual(const Arrays& in, Params params, const mx::Stream& s) {
  const auto [y, updated] = rmsnorm_residual_in_mlx(in[0], in[1], in[2], params[0], s);
  return {y, updated};
}

Arrays swiglu(const Arrays& in, Params, const mx::Stream& s) {
  return {swiglu_in_mlx(in[0], in[1], s)};
}

// Every second element of the last axis.
mx::array every_second(const mx::array& x, int first, const mx::Stream& s) {
  mx::Shape start(x.ndim(), 0), steps(x.ndim(), 1);
  start.back() = first;
  steps.back() = 2;
  return mx::slice(x, start, x.shape(), steps, s);
}

mx::array rotated(const mx::array& x, const mx::array& cos, const mx::array& sin,
                  const mx::Stream& s) {
  const mx::array a = every_second(x, 0, s), b = every_second(x, 1, s);
  const mx::array ra = mx::subtract(mx::multiply(a, cos, s), mx::multiply(b, sin, s), s);
  const mx::array rb = mx::add(mx::multiply(a, sin, s), mx::multiply(b, cos, s), s);
  return mx::reshape(mx::stack({ra, rb}, -1, s), x.shape(), s);
}

Arrays rope(const Arrays& in, Params, const mx::Stream& s) {
  return {mx::concatenate({in[0], rotated(in[1], in[4], in[5], s)}, -1, s),
          mx::concatenate({in[2], rotated(in[3], in[4], in[5], s)}, -1, s)};
}

}  // namespace

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

devices::MlxForm form_of(const spec::Op& op) {
  if (op.name == "rmsnorm") return rmsnorm;
  if (op.name == "rmsnorm_residual") return rmsnorm_residual;
  if (op.name == "swiglu") return swiglu;
  if (op.name == "rope") return rope;
  return [&op](const Arrays& in, Params params, const mx::Stream&) {
    return op.mlx(in, std::vector<double>(params.begin(), params.end()));
  };
}

}  // namespace mlx_kd::runtime
