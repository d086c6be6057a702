#include "mlx_kd/kernels/mlstm/composition.h"

#include <mlx/ops.h>

#include <cmath>
#include <limits>

#include "mlx_kd/kernels/common/shapes.h"

namespace mlx_kd::kernels::mlstm {
namespace {

namespace mx = mlx::core;
using mx::array;

array log_sigmoid(const array& x, const mx::Stream& s) {
  return mx::negative(mx::logaddexp(mx::array(0.0f), mx::negative(x, s), s), s);
}
array float_of(const array& x, const mx::Stream& s) {
  return mx::astype(x, mx::float32, s);
}
array swapped(const array& x, const mx::Stream& s) {
  return mx::swapaxes(x, -1, -2, s);
}
array plus(const array& a, const array& b, const mx::Stream& s) {
  return mx::add(a, b, s);
}
array minus(const array& a, const array& b, const mx::Stream& s) {
  return mx::subtract(a, b, s);
}
array times(const array& a, const array& b, const mx::Stream& s) {
  return mx::multiply(a, b, s);
}
array at_end(const array& x, const mx::Stream& s) {  // one axis more
  return mx::expand_dims(x, -1, s);
}
array scaled_queries(const array& q, const mx::Stream& s) {
  const array by(1.0f / std::sqrt(static_cast<float>(q.shape(-1))));
  return times(float_of(q, s), by, s);
}

// As it is, or as a constant for gradients.
array held(const array& x, const FormSettings& settings, const mx::Stream& s) {
  return settings.normalizer_grad ? x : mx::stop_gradient(x, s);
}

// Rows over N + eps; `sums` and `m` have the axes of the rows but the last.
array divided(const array& rows, const array& sums, const array& m, const FormSettings& settings,
              const mx::Stream& s) {
  if (!settings.normalize) return rows;
  const array floor = settings.siging ? array(1.0f) : mx::exp(mx::negative(m, s), s);
  const array largest = mx::maximum(mx::abs(sums, s), floor, s);
  const array by = plus(largest, array(static_cast<float>(settings.eps)), s);
  return mx::divide(rows, at_end(held(by, settings, s), s), s);
}

array zeros_or(const array& given, const mx::Shape& shape, const mx::Stream& s) {
  return is_left_out(given) ? mx::zeros(shape, mx::float32, s) : given;
}

}  // namespace

spec::Op::Arrays parallel_form(const spec::Op::Arrays& in, const FormSettings& settings,
                               const mx::Stream& s) {
  const bool siging = settings.siging;
  const array q = scaled_queries(in[0], s), k = float_of(in[1], s), v = float_of(in[2], s);
  const mx::Shape leading(in[3].shape().begin(), in[3].shape().end() - 1);
  mx::Shape n_shape = leading, c_shape = leading;
  n_shape.push_back(k.shape(-1));
  c_shape.insert(c_shape.end(), {k.shape(-1), v.shape(-1)});
  const array c0 = zeros_or(in[5], c_shape, s), n0 = zeros_or(in[6], n_shape, s);
  const array m0 = zeros_or(in[7], leading, s);
  const int tokens = in[3].shape(-1);
  const array b = mx::cumsum(log_sigmoid(in[4], s), -1, false, true, s);
  const array i = siging ? log_sigmoid(in[3], s) : in[3];
  const array seen = mx::tri(tokens, tokens, 0, mx::bool_, s);
  const array none(-std::numeric_limits<float>::infinity());
  const array pairs =
      plus(minus(at_end(b, s), mx::expand_dims(b, -2, s), s), mx::expand_dims(i, -2, s), s);
  const array d = mx::where(seen, pairs, none, s);
  const array from_m0 = siging ? b : plus(b, at_end(m0, s), s);
  const array largest = mx::maximum(from_m0, mx::max(d, -1, false, s), s);
  const array m = siging ? mx::zeros_like(b, s) : held(largest, settings, s);
  const array weights = mx::exp(minus(d, at_end(m, s), s), s);
  const array past = mx::exp(minus(from_m0, m, s), s);
  const array scores = times(mx::matmul(q, swapped(k, s), s), weights, s);
  const array old = times(q, at_end(past, s), s);
  const array rows = plus(mx::matmul(scores, v, s), mx::matmul(old, c0, s), s);
  const array of_n = mx::squeeze(mx::matmul(old, at_end(n0, s), s), -1, s);
  const array h = divided(rows, plus(mx::sum(scores, -1, false, s), of_n, s), m, settings, s);
  const array last(tokens - 1), last_past = mx::take(past, last, -1, s);
  const array shares = times(k, at_end(mx::take(weights, last, -2, s), s), s);
  const array c =
      plus(times(c0, at_end(at_end(last_past, s), s), s), mx::matmul(swapped(shares, s), v, s), s);
  const array n = plus(times(n0, at_end(last_past, s), s), mx::sum(shares, -2, false, s), s);
  return {mx::astype(h, in[0].dtype(), s), c, n, mx::take(m, last, -1, s)};
}

spec::Op::Arrays step_form(const spec::Op::Arrays& in, const FormSettings& settings,
                           const mx::Stream& s) {
  const bool siging = settings.siging;
  const array q = scaled_queries(in[0], s), k = float_of(in[1], s), v = float_of(in[2], s);
  const array f = log_sigmoid(in[4], s), i = siging ? log_sigmoid(in[3], s) : in[3];
  const array from_m = siging ? f : plus(f, in[7], s);
  const array m = siging ? mx::zeros_like(f, s) : mx::maximum(from_m, i, s);
  const array past = at_end(mx::exp(minus(from_m, m, s), s), s);
  const array share = times(k, at_end(mx::exp(minus(i, m, s), s), s), s);
  const array c = plus(times(in[5], at_end(past, s), s),
                       times(at_end(share, s), mx::expand_dims(v, -2, s), s), s);
  const array n = plus(times(in[6], past, s), share, s);
  const array row = mx::squeeze(mx::matmul(mx::expand_dims(q, -2, s), c, s), -2, s);
  const array h = divided(row, mx::sum(times(q, n, s), -1, false, s), m, settings, s);
  return {mx::astype(h, in[0].dtype(), s), c, n, m};
}

}  // namespace mlx_kd::kernels::mlstm
