// The reference of a large product is sampled: the first and the last row and column, where tiles
// end, and elements that are scattered over all rows and columns.
#include "mlx_kd/kernels/matmul/matmul/judge.h"

#include <algorithm>
#include <cmath>

#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/common/reference64.h"
#include "mlx_kd/kernels/matmul/reference.h"

namespace mlx_kd::kernels::general_product {
namespace {

using spec::Dims;
using spec::Dtype;

constexpr double kRoundings = 16;                 // float32 roundings that are charged on S: 1e-6 S
constexpr int64_t kMostTerms = int64_t(1) << 27;  // of a reference that gives all elements
constexpr int64_t kSamples = 16384;               // scattered elements of one that does not

// An operand in float64, row after row of the axis that stays: (batch, count, K).
std::vector<double> rows_of(const void* data, Dtype t, int64_t batch, int64_t count, int64_t k,
                            bool k_is_last) {
  std::vector<double> values = load_all(data, batch * count * k, t);
  if (k_is_last) return values;
  std::vector<double> rows(values.size());
  for (int64_t item = 0; item < batch; ++item)
    for (int64_t j = 0; j < k; ++j) {
      const double* const from = values.data() + (item * k + j) * count;
      double* const to = rows.data() + item * count * k + j;
      for (int64_t i = 0; i < count; ++i) to[i * k] = from[i];
    }
  return rows;
}

// Of each row, the sum of its magnitudes.
std::vector<double> magnitudes_of(const std::vector<double>& rows, int64_t k) {
  std::vector<double> sums;
  for (size_t at = 0; at < rows.size(); at += static_cast<size_t>(k)) {
    double sum = 0;
    for (size_t j = 0; j < static_cast<size_t>(k); ++j) sum += std::fabs(rows[at + j]);
    sums.push_back(sum);
  }
  return sums;
}

struct Sum {
  double y = 0, terms = 0;
  double flushed = 0;  // what it may lose where subnormal elements count as zero
};

// In several sums, which a compiler can keep in vectors.
Sum sum_of(const double* a, const double* b, int64_t k) {
  constexpr int kLanes = 8;
  double y[kLanes] = {}, terms[kLanes] = {};
  int64_t j = 0;
  for (; j + kLanes <= k; j += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) {
      const double product = a[j + lane] * b[j + lane];
      y[lane] += product, terms[lane] += std::fabs(product);
    }
  Sum sum;
  for (; j < k; ++j) sum.y += a[j] * b[j], sum.terms += std::fabs(a[j] * b[j]);
  for (int lane = 0; lane < kLanes; ++lane) sum.y += y[lane], sum.terms += terms[lane];
  return sum;
}

// What is done to sums, at one element.
struct Ending {
  const void *c, *bias;  // null: there is none
  Dtype t;
  int64_t n, activation;
  double alpha, beta;

  Charged element(int64_t at, Sum sum) const {
    sum.y *= alpha, sum.terms *= std::fabs(alpha);
    const double flushed = underflow(t) + sum.flushed * std::fabs(alpha);
    const auto add = [&](double value) { sum.y += value, sum.terms += std::fabs(value); };
    if (c) add(beta * spec::load_element(c, at, t));
    if (bias) add(spec::load_element(bias, at % n, t));
    if (activation == 1) sum.y = sum.y > 0 || std::isnan(sum.y) ? sum.y : 0;
    if (activation <= 1) return {sum.y, std::fabs(sum.y), sum.terms, flushed};
    const matmul::Activated a = matmul::activated(sum.y, activation - 2);
    const double off = kRoundings * 0x1p-24 * sum.terms;
    return {a.y, std::fabs(a.y),
            std::fabs(a.slope) * sum.terms + std::fabs(a.y) * (1 + std::min(a.exponent, 90.0) / 4),
            2 * flushed + off * off};
  }
};

// Elements of (batch, M, N) that are computed where not all are.
std::vector<int64_t> sampled_elements(const Dims& dims) {
  const int64_t m = dims.at("M"), n = dims.at("N"), rows = dims.at("batch") * m;
  std::vector<int64_t> elements;
  for (const int64_t row : {int64_t{0}, rows - 1})
    for (int64_t j = 0; j < n; j += 1 + n / kSamples) elements.push_back(row * n + j);
  for (const int64_t column : {int64_t{0}, n - 1})
    for (int64_t i = 0; i < rows; i += 1 + rows / kSamples) elements.push_back(i * n + column);
  base::Random random(static_cast<uint64_t>(rows * 31 + n));
  for (int64_t i = 0; i < kSamples; ++i)
    elements.push_back(static_cast<int64_t>(random.below(static_cast<uint64_t>(rows))) * n +
                       static_cast<int64_t>(random.below(static_cast<uint64_t>(n))));
  return elements;
}

}  // namespace

bool is_sampled(const Dims& dims) {
  const double terms = static_cast<double>(dims.at("batch") * dims.at("M")) *
                       static_cast<double>(dims.at("N")) * static_cast<double>(dims.at("K"));
  return terms > static_cast<double>(kMostTerms) &&
         dims.at("batch") * dims.at("M") * dims.at("N") > 4 * kSamples;
}

std::vector<spec::Reference64> reference(const std::vector<const void*>& inputs, Dtype t,
                                         const Dims& dims, const std::vector<double>& scalars) {
  const int64_t batch = dims.at("batch"), m = dims.at("M"), n = dims.at("N"), k = dims.at("K");
  const std::vector<double> a = rows_of(inputs[0], t, batch, m, k, !dims.at("transpose_a"));
  const std::vector<double> b = rows_of(inputs[1], t, batch, n, k, dims.at("transpose_b"));
  const Ending ending = {dims.at("has_c") ? inputs[2] : nullptr,
                         dims.at("has_bias") ? inputs[3] : nullptr,
                         t,
                         n,
                         dims.at("activation"),
                         scalars[0],
                         scalars[1]};
  const std::vector<double> of_a = magnitudes_of(a, k), of_b = magnitudes_of(b, k);
  const int64_t count = batch * m * n;
  const bool some = is_sampled(dims);
  const std::vector<double> zeros(static_cast<size_t>(count));
  spec::Reference64 made = {zeros, zeros, zeros,
                            std::vector<double>(zeros.size(), some ? spec::kUnchecked : 0)};
  const auto put = [&](int64_t at) {
    const int64_t row = at / n, column = row / m * n + at % n;
    Sum sum = sum_of(a.data() + row * k, b.data() + column * k, k);
    sum.flushed = 0x1p-126 * (of_a[static_cast<size_t>(row)] + of_b[static_cast<size_t>(column)]);
    const Charged one = ending.element(at, sum);
    const auto i = static_cast<size_t>(at);
    made.y[i] = one.y, made.rounded[i] = one.rounded, made.terms[i] = one.terms;
    made.absolute[i] = one.absolute;
  };
  if (some)
    for (const int64_t at : sampled_elements(dims)) put(at);
  else
    for (int64_t at = 0; at < count; ++at) put(at);
  saturate(made, t, kRoundings);
  return {made};
}

spec::ErrorBound bound(const Dims&) {
  return {
      kRoundings,
      "1e-6 of the sum of |alpha a b|, |beta c| and |bias| for float32 sums, carried through the "
      "slope of the activation; the result is rounded once. Of products of more than 2^27 terms "
      "at least 16,384 elements are checked, the first and last rows and columns among them."};
}

}  // namespace mlx_kd::kernels::general_product
