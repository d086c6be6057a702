#include "mlx_kd/runtime/call/linalg.h"

#include <mlx/ops.h>
#include <mlx/utils.h>

#include <algorithm>
#include <map>
#include <stdexcept>

#include "mlx_kd/runtime/call/ops.h"

namespace mlx_kd::runtime::linalg {
namespace {

using Arrays = std::vector<mx::array>;
using Numbers = std::map<std::string, double>;

constexpr int kMostColumns = 512;  // of svd and eigh

[[noreturn]] void refuse_matrix(const std::string& what, const mx::array& a,
                                const std::string& how) {
  std::string shape;
  for (const int extent : a.shape()) shape += (shape.empty() ? "" : ", ") + std::to_string(extent);
  throw std::invalid_argument("[linalg] " + what + ": the shape is [" + shape + "]: give " + how);
}

void need_square(const std::string& what, const mx::array& a) {
  if (a.ndim() < 2 || a.shape(-1) != a.shape(-2))
    refuse_matrix(what, a, "square matrices, [..., n, n]");
}

bool is_narrow(mx::Dtype type) {
  return type == mx::float16 || type == mx::bfloat16;
}

// Whether our operators take these arrays on the stream; `most`: columns and rows, the fewer.
bool is_ours(const Arrays& in, mx::StreamOrDevice s, int most = 0) {
  const bool is_cpu = mx::to_stream(s).device == mx::Device::cpu;
  for (const mx::array& x : in)
    if (x.size() == 0 ||
        !(x.dtype() == mx::float32 || is_narrow(x.dtype()) || (x.dtype() == mx::float64 && is_cpu)))
      return false;
  return in[0].ndim() >= 2 && (!most || std::min(in[0].shape(-1), in[0].shape(-2)) <= most);
}

// An operator's outputs; those of 16 bits are computed in float32.
Arrays run(const std::string& op, Arrays in, const Numbers& numbers, mx::StreamOrDevice s) {
  const mx::Dtype type = in[0].dtype();
  if (is_narrow(type))
    for (mx::array& x : in) x = mx::astype(x, mx::float32, s);
  Arrays out = call(op, in, numbers, s);
  if (is_narrow(type))
    for (mx::array& x : out)
      if (x.dtype() == mx::float32) x = mx::astype(x, type, s);
  return out;
}

// One type and one shape of leading axes; b has `own` axes of its own.
Arrays together(const std::string& what, mx::array a, mx::array b, int own, mx::StreamOrDevice s) {
  need_square(what, a);
  const mx::Dtype type = mx::result_type(a, b);
  a = mx::astype(a, type, s), b = mx::astype(b, type, s);
  if (static_cast<int>(b.ndim()) < own || b.shape(-own) != a.shape(-1))
    refuse_matrix(what, b, "as many rows of b as a has");
  const auto leading = [](const mx::array& x, int kept) {
    return mx::Shape(x.shape().begin(), x.shape().end() - kept);
  };
  const mx::Shape common = mx::broadcast_shapes(leading(a, 2), leading(b, own));
  const auto spread = [&](const mx::array& x, int kept) {
    mx::Shape shape = common;
    shape.insert(shape.end(), x.shape().end() - kept, x.shape().end());
    return mx::broadcast_to(x, shape, s);
  };
  return {spread(a, 2), spread(b, own)};
}

// Of solve and solve_triangular: b may be one right side.
mx::array solve_by(const std::string& op, const mx::array& a, const mx::array& b,
                   const Numbers& numbers, mx::StreamOrDevice s) {
  const bool is_one = b.ndim() == 1 || b.ndim() + 1 == a.ndim();
  Arrays in = together(op, a, b, is_one ? 1 : 2, s);
  if (is_one) in[1] = mx::expand_dims(in[1], -1, s);
  const mx::array x = run(op, in, numbers, s)[0];
  return is_one ? mx::squeeze(x, -1, s) : x;
}

bool is_upper(const std::string& what, const std::string& uplo) {
  if (uplo != "L" && uplo != "U")
    throw std::invalid_argument("[linalg] " + what + ": UPLO is " + uplo + ": give L or U");
  return uplo == "U";
}

}  // namespace

std::pair<mx::array, mx::array> qr(const mx::array& a, mx::StreamOrDevice s) {
  if (!is_ours({a}, s)) return mx::linalg::qr(a, s);
  const Arrays out = run("qr", {a}, {}, s);
  return {out[0], out[1]};
}

std::vector<mx::array> svd(const mx::array& a, bool compute_uv, mx::StreamOrDevice s) {
  if (!is_ours({a}, s, kMostColumns)) return mx::linalg::svd(a, compute_uv, s);
  const Arrays out = run("svd", {a}, {{"form", compute_uv ? 0 : 2}}, s);
  return compute_uv ? Arrays{out[0], out[1], out[2]} : Arrays{out[1]};
}

mx::array inv(const mx::array& a, mx::StreamOrDevice s) {
  if (!is_ours({a}, s)) return mx::linalg::inv(a, s);
  need_square("inv", a);
  return run("inv", {a}, {}, s)[0];
}

mx::array tri_inv(const mx::array& a, bool upper, mx::StreamOrDevice s) {
  if (!is_ours({a}, s)) return mx::linalg::tri_inv(a, upper, s);
  need_square("tri_inv", a);
  return run("tri_inv", {a}, {{"upper", upper}}, s)[0];
}

mx::array cholesky(const mx::array& a, bool upper, mx::StreamOrDevice s) {
  if (!is_ours({a}, s)) return mx::linalg::cholesky(a, upper, s);
  need_square("cholesky", a);
  return run("cholesky", {a}, {{"upper", upper}}, s)[0];
}

mx::array cholesky_inv(const mx::array& a, bool upper, mx::StreamOrDevice s) {
  if (!is_ours({a}, s)) return mx::linalg::cholesky_inv(a, upper, s);
  need_square("cholesky_inv", a);
  return run("cholesky_inv", {a}, {{"upper", upper}}, s)[0];
}

mx::array pinv(const mx::array& a, mx::StreamOrDevice s) {
  if (!is_ours({a}, s, kMostColumns)) return mx::linalg::pinv(a, s);
  const Arrays out = run("svd", {a}, {{"form", 1}}, s);
  const float least = 10.0f * static_cast<float>(std::max(a.shape(-1), a.shape(-2))) *
                      static_cast<float>(mx::finfo(a.dtype()).eps);
  const mx::array largest = mx::max(out[1], -1, true, s), none = mx::zeros_like(out[1], s);
  const mx::array is_kept =
      mx::greater(out[1], mx::multiply(mx::astype(mx::array(least), a.dtype(), s), largest, s), s);
  const mx::array one = mx::ones_like(out[1], s);
  const mx::array inverse =
      mx::where(is_kept, mx::divide(one, mx::where(is_kept, out[1], one, s), s), none, s);
  const mx::array by_v =
      mx::multiply(mx::swapaxes(out[2], -1, -2, s), mx::expand_dims(inverse, -2, s), s);
  return mx::matmul(by_v, mx::swapaxes(out[0], -1, -2, s), s);
}

std::vector<mx::array> lu(const mx::array& a, mx::StreamOrDevice s) {
  if (!is_ours({a}, s)) return mx::linalg::lu(a, s);
  const Arrays out = run("lu", {a}, {}, s);
  const int m = a.shape(-2), n = a.shape(-1), k = std::min(m, n);
  mx::Shape from(a.ndim(), 0), to_l = a.shape(), to_u = a.shape();
  to_l.back() = k, to_u[a.ndim() - 2] = k;
  const mx::array below = mx::slice(mx::tril(out[0], -1, s), from, to_l, s);
  const mx::array lower = mx::add(below, mx::eye(m, k, 0, a.dtype(), s), s);
  const mx::array upper = mx::slice(mx::triu(out[0], 0, s), from, to_u, s);
  return {mx::argsort(out[2], -1, s), lower, upper};
}

std::pair<mx::array, mx::array> lu_factor(const mx::array& a, mx::StreamOrDevice s) {
  if (!is_ours({a}, s)) return mx::linalg::lu_factor(a, s);
  const Arrays out = run("lu", {a}, {}, s);
  return {out[0], out[1]};
}

mx::array solve(const mx::array& a, const mx::array& b, mx::StreamOrDevice s) {
  return is_ours({a, b}, s) ? solve_by("solve", a, b, {}, s) : mx::linalg::solve(a, b, s);
}

mx::array solve_triangular(const mx::array& a, const mx::array& b, bool upper,
                           mx::StreamOrDevice s) {
  return is_ours({a, b}, s) ? solve_by("solve_triangular", a, b, {{"upper", upper}}, s)
                            : mx::linalg::solve_triangular(a, b, upper, s);
}

std::pair<mx::array, mx::array> eigh(const mx::array& a, std::string UPLO, mx::StreamOrDevice s) {
  if (!is_ours({a}, s, kMostColumns)) return mx::linalg::eigh(a, UPLO, s);
  need_square("eigh", a);
  const Arrays out = run("eigh", {a}, {{"upper", is_upper("eigh", UPLO)}}, s);
  return {out[0], out[1]};
}

mx::array eigvalsh(const mx::array& a, std::string UPLO, mx::StreamOrDevice s) {
  if (!is_ours({a}, s, kMostColumns)) return mx::linalg::eigvalsh(a, UPLO, s);
  need_square("eigvalsh", a);
  return run("eigh", {a}, {{"upper", is_upper("eigvalsh", UPLO)}, {"values", 1}}, s)[0];
}

mx::array det(const mx::array& a, mx::StreamOrDevice s) {
  if (a.dtype() == mx::float64 || !is_ours({a}, s)) return mx::linalg::det(a, s);
  const auto [sign, logarithm] = slogdet(a, s);
  const mx::array is_none = mx::equal(sign, mx::zeros_like(sign, s), s);
  const mx::array kept = mx::where(is_none, mx::zeros_like(sign, s), logarithm, s);
  return mx::where(is_none, sign, mx::multiply(sign, mx::exp(kept, s), s), s);
}

std::pair<mx::array, mx::array> slogdet(const mx::array& a, mx::StreamOrDevice s) {
  if (!is_ours({a}, s)) return mx::linalg::slogdet(a, s);
  need_square("slogdet", a);
  const Arrays out = run("slogdet", {a}, {}, s);
  return {out[0], out[1]};
}

}  // namespace mlx_kd::runtime::linalg
