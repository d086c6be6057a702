#include "mlx_kd/kernels/matmul/matmul/arrays.h"

#include <mlx/ops.h>
#include <mlx/utils.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <stdexcept>

#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/common/shapes.h"
#include "mlx_kd/kernels/matmul/matmul/judge.h"
#include "mlx_kd/kernels/matmul/parts.h"

namespace mlx_kd::kernels::general_product {
namespace {

namespace mx = mlx::core;
using spec::ArrayView;

constexpr const char* kPorts[] = {"a", "b", "c", "bias"};

[[noreturn]] void refuse(Port port, const ArrayView& array, const std::string& wanted) {
  throw std::invalid_argument("[matmul] " + std::string(kPorts[port]) + " has shape " +
                              shape_text(array.shape) + ": it must be " + wanted);
}

// Leading axes as those of a, then rows and columns.
void check_matrices(Port port, std::span<const ArrayView> in, int64_t rows, int64_t columns) {
  const auto a = in[kA].shape, have = in[port].shape;
  if (have.size() == a.size() && have[have.size() - 2] == rows && have.back() == columns &&
      std::equal(a.begin(), a.end() - 2, have.begin()))
    return;
  std::string leading;
  for (size_t i = 0; i + 2 < a.size(); ++i) leading += std::to_string(a[i]) + ", ";
  refuse(port, in[port],
         "(" + leading + std::to_string(rows) + ", " + std::to_string(columns) +
             "), as the others say");
}

mx::Shape leading_axes(const mx::array& array) {
  return {array.shape().begin(), array.shape().end() - 2};
}

// What both broadcast to; nullopt where they do not go together.
std::optional<mx::Shape> broadcast_of(mx::Shape a, mx::Shape b) {
  if (a.size() < b.size()) std::swap(a, b);
  for (size_t i = a.size() - b.size(), j = 0; j < b.size(); ++i, ++j) {
    if (a[i] != b[j] && a[i] != 1 && b[j] != 1) return std::nullopt;
    if (a[i] == 1) a[i] = b[j];
  }
  return a;
}

// x sigmoid(..), without the cancellation of 1 + tanh(..); in float32, since exp overflows in
// float16.
mx::array gated_by_sigmoid(const mx::array& x, bool is_gelu, const mx::Stream& s) {
  const auto number = [&](float value) { return mx::array(value, x.dtype()); };
  mx::array inner = x;
  if (is_gelu) {
    const mx::array cube = mx::multiply(mx::square(x, s), x, s);
    const mx::array sum = mx::add(x, mx::multiply(number(0.044715f), cube, s), s);
    inner = mx::multiply(number(1.5957691216f), sum, s);
  }
  return mx::multiply(x, mx::sigmoid(inner, s), s);
}

mx::array activated(const mx::array& x, int64_t activation, const mx::Stream& s) {
  if (activation == 0) return x;
  if (activation == 1) return mx::maximum(x, mx::array(0.0f, x.dtype()), s);
  const mx::array wide = mx::astype(x, mx::float32, s);
  return mx::astype(gated_by_sigmoid(wide, activation == 3, s), x.dtype(), s);
}

mx::array swapped(const mx::array& x, bool is_transposed, const mx::Stream& s) {
  return is_transposed ? mx::swapaxes(x, -1, -2, s) : x;
}

}  // namespace

void signature(std::span<const ArrayView> in, std::span<const double>, std::span<int64_t> dims) {
  for (const Port port : {kA, kB})
    if (in[port].shape.size() < 2) refuse(port, in[port], "of at least two axes");
  const auto a = in[kA].shape, b = in[kB].shape;
  dims[kBatch] = 1;
  for (size_t i = 0; i + 2 < a.size(); ++i) dims[kBatch] *= a[i];
  dims[kM] = dims[kTransposeA] ? a.back() : a[a.size() - 2];
  dims[kK] = dims[kTransposeA] ? a[a.size() - 2] : a.back();
  dims[kN] = dims[kTransposeB] ? b[b.size() - 2] : b.back();
  dims[kHasC] = !is_left_out(in[kC]);
  dims[kHasBias] = !is_left_out(in[kBias]);
  if (dims[kTransposeB])
    check_matrices(kB, in, dims[kN], dims[kK]);
  else
    check_matrices(kB, in, dims[kK], dims[kN]);
  if (dims[kHasC] && in[kC].shape.size() < 2)
    refuse(kC, in[kC], "of at least two axes, or left out");
  if (dims[kHasC]) check_matrices(kC, in, dims[kM], dims[kN]);
  if (dims[kHasBias] && (in[kBias].shape.size() != 1 || in[kBias].shape[0] != dims[kN]))
    refuse(kBias, in[kBias], "(" + std::to_string(dims[kN]) + ",), or left out");
}

spec::Op::Arrays arrange(const spec::Op::Arrays& in, const mx::Stream& s) {
  const auto has_matrices = [&](Port port) { return in[port].ndim() >= 2; };
  if (!has_matrices(kA) || !has_matrices(kB)) return in;  // refused by their shapes
  std::optional<mx::Shape> leading = broadcast_of(leading_axes(in[kA]), leading_axes(in[kB]));
  if (leading && has_matrices(kC)) leading = broadcast_of(*leading, leading_axes(in[kC]));
  if (!leading) return in;
  spec::Op::Arrays out = in;
  for (const Port port : {kA, kB, kC}) {
    if (!has_matrices(port) || leading_axes(in[port]) == *leading) continue;
    mx::Shape shape = *leading;
    shape.insert(shape.end(), in[port].shape().end() - 2, in[port].shape().end());
    out[port] = mx::broadcast_to(in[port], shape, s);
  }
  return out;
}

// `numbers`: alpha, beta, then the attributes in order.
spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double> numbers,
                          const mx::Stream& s) {
  const auto alpha = static_cast<float>(numbers[0]), beta = static_cast<float>(numbers[1]);
  const mx::array a = swapped(in[kA], numbers[2] != 0, s), b = swapped(in[kB], numbers[3] != 0, s);
  mx::array y = is_left_out(in[kC]) ? mx::matmul(a, b, s) : mx::addmm(in[kC], a, b, alpha, beta, s);
  if (is_left_out(in[kC]) && alpha != 1) y = mx::multiply(y, mx::array(alpha, y.dtype()), s);
  if (!is_left_out(in[kBias])) y = mx::add(y, in[kBias], s);
  return {activated(y, static_cast<int64_t>(numbers[4]), s)};
}

// Sums of float16 stay far below its largest number: MLX rounds them before c and the bias come in.
void fill(const spec::FillRequest& request) {
  base::Random random(request.seed * 31 + static_cast<uint64_t>(request.distribution));
  const spec::Dims& dims = request.dims;
  const int64_t batch = dims.at("batch"), m = dims.at("M"), n = dims.at("N"), k = dims.at("K");
  const int64_t counts[] = {batch * m * k, batch * k * n, dims.at("has_c") ? batch * m * n : 0,
                            dims.at("has_bias") ? n : 0};
  for (size_t i = 0; i < std::size(counts); ++i)
    matmul::fill_values(request.inputs[i], counts[i], request, random);
  if (request.t == spec::Dtype::float16) {
    const double less = std::exp2(-std::floor(std::log2(static_cast<double>(k)) / 2));
    for (int64_t i = 0; i < counts[kA]; ++i)
      spec::store_element(
          request.inputs[kA], i, request.t,
          static_cast<float>(less * spec::load_element(request.inputs[kA], i, request.t)));
  }
  if (request.distribution != spec::Distribution::special) return;
  // Zeros of both signs, subnormals and a NaN. A reference that is sampled has no NaN to compare.
  for (int64_t i = 0; i < counts[kA]; i += 7)
    spec::store_element(request.inputs[kA], i, request.t, i % 2 ? -0.0f : 0.0f);
  for (int64_t i = 1; i < counts[kB]; i += 5)
    spec::store_element(
        request.inputs[kB], i, request.t,
        static_cast<float>(spec::smallest_subnormal(request.t) * static_cast<double>(i % 9)));
  if (!is_sampled(dims) && counts[kA] > 1)
    spec::store_element(request.inputs[kA], counts[kA] / 3, request.t, std::nanf(""));
}

}  // namespace mlx_kd::kernels::general_product
