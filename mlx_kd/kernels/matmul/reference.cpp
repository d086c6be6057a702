#include "mlx_kd/kernels/matmul/reference.h"

#include <algorithm>
#include <cmath>

#include "mlx_kd/kernels/common/reference64.h"
#include "mlx_kd/kernels/matmul/weights64.h"

namespace mlx_kd::kernels::matmul {
namespace {

using spec::Dims;
using spec::Dtype;

// float32 roundings that a product charges on S: 1e-6 S.
constexpr double kRoundings = 16;

double rounded(double value, Dtype t) {
  uint32_t bits = 0;
  spec::store_element(&bits, 0, t, static_cast<float>(value));
  return spec::load_element(&bits, 0, t);
}

struct Rows64 {
  std::vector<double> x;  // (M, K), as it is multiplied
  // Elements that may be rounded to the neighbour: those whose float32 value lies that close to
  // the middle of two values of T.
  double flips = 0;
};

// A scale that is off by 16 roundings of float32 moves an element over the middle of two values of
// T with this probability, twice: the product with the weight is rounded too. So many of K, and
// four deviations more.
double flips_of(int64_t k, Dtype t) {
  const double share = std::min(1.0, 2 * 16 * 0x1p-24 / spec::unit_roundoff(t));
  const double expected = 2 * share * static_cast<double>(k);
  return expected + 4 * std::sqrt(expected) + 4;
}

Rows64 rows_in_float64(const void* x, const void* norm, Dtype t, const Dims& dims, double eps) {
  const int64_t m = dims.at("M"), k = dims.at("K");
  Rows64 rows{load_all(x, m * k, t)};
  if (!dims.at("has_norm")) return rows;
  const std::vector<double> w = load_all(norm, k, t);
  for (int64_t i = 0; i < m; ++i) {
    const auto row = rows.x.begin() + i * k;
    double sum = 0;
    for (int64_t j = 0; j < k; ++j) sum += row[j] * row[j];
    const double scale = 1 / std::sqrt(sum / static_cast<double>(k) + static_cast<float>(eps));
    for (int64_t j = 0; j < k; ++j)
      row[j] = rounded(rounded(row[j] * scale, t) * w[static_cast<size_t>(j)], t);
  }
  rows.flips = flips_of(k, t);
  return rows;
}

// One matrix times x: (M, N) each.
struct Products {
  std::vector<double> y, terms;
  std::vector<double> flipped;  // what elements of x that were rounded another way may add
  std::vector<double> flushed;  // what subnormals that are flushed may add
};

Products products_of(const Rows64& rows, const Stored& stored, Dtype t, const Dims& dims,
                     int64_t n) {
  const int64_t m = dims.at("M"), k = dims.at("K");
  const auto size = static_cast<size_t>(m * n);
  Products made{std::vector<double>(size), std::vector<double>(size), std::vector<double>(size),
                std::vector<double>(size)};
  for (int64_t row = 0; row < n; ++row) {
    const Row64 w = row_of(format_of(dims), stored, t, row, k);
    for (int64_t i = 0; i < m; ++i) {
      const double* const x = rows.x.data() + i * k;
      double y = 0, terms = 0, largest = 0, weights = 0;
      for (int64_t j = 0; j < k; ++j) {
        const auto at = static_cast<size_t>(j);
        y += x[j] * w.w[at];
        const double term = std::fabs(x[j]) * w.magnitudes[at];
        terms += term;
        largest = std::max(largest, term);
        weights += w.magnitudes[at];
      }
      const auto at = static_cast<size_t>(i * n + row);
      made.y[at] = y;
      made.terms[at] = terms;
      made.flipped[at] = 2 * rows.flips * largest;
      made.flushed[at] = 0x1p-126 * weights + underflow(t);
    }
  }
  return made;
}

struct Activated {
  double y, slope, exponent;  // of g; its slope there; what is exponentiated
};

Activated activated(double g, int64_t activation) {
  const double c = std::sqrt(2 / 3.14159265358979323846);
  const double inner = activation == 1 ? 2 * c * (g + 0.044715 * g * g * g) : g;
  const double inner_slope = activation == 1 ? 2 * c * (1 + 3 * 0.044715 * g * g) : 1;
  const double sigmoid = 1 / (1 + std::exp(-inner));
  const double sigmoid_slope = sigmoid * (1 - sigmoid) * inner_slope;
  return {g * sigmoid, sigmoid + (std::isfinite(g) && sigmoid_slope > 0 ? g * sigmoid_slope : 0),
          std::fabs(inner)};
}

spec::Reference64 gated(const Products& gate, const Products& up, Dtype t, const Dims& dims) {
  const double u = spec::unit_roundoff(t);
  spec::Reference64 result;
  for (size_t i = 0; i < gate.y.size(); ++i) {
    const double g = gate.y[i], b = up.y[i];
    const Activated a = activated(g, dims.at("activation"));
    const double y = a.y * b, by_gate = std::fabs(a.slope * b), by_up = std::fabs(a.y);
    const auto off = [&](const Products& of) {
      return u * (std::fabs(of.y[i]) + of.flipped[i]) + kRoundings * 0x1p-24 * of.terms[i] +
             of.flushed[i];
    };
    // Both products are off by a rounding and more; what is of second order has a slope of at
    // most 1.
    const double second = off(gate) * off(gate) * std::fabs(b) + 1.2 * off(gate) * off(up);
    append(result, {y,
                    std::fabs(y) + by_gate * (std::fabs(g) + gate.flipped[i]) +
                        by_up * (std::fabs(b) + up.flipped[i]),
                    by_gate * gate.terms[i] + by_up * up.terms[i] +
                        std::fabs(y) * (1 + std::min(a.exponent, 90.0) / 4),
                    underflow(t) + second + by_gate * gate.flushed[i] + by_up * up.flushed[i] +
                        0x1p-126 * std::fabs(b)});
  }
  saturate(result, t, kRoundings);
  return result;
}

spec::Reference64 summed(const Products& made, const void* bias, const void* residual, Dtype t,
                         int64_t n) {
  spec::Reference64 result;
  for (size_t i = 0; i < made.y.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    double y = made.y[i], charged = std::fabs(y) + made.flipped[i], terms = made.terms[i];
    for (const void* const added : {bias, residual}) {
      if (!added) continue;
      const double value = spec::load_element(added, added == bias ? at % n : at, t);
      y += value;
      charged += std::fabs(y);
      terms += std::fabs(value);
    }
    append(result, {y, charged, terms, made.flushed[i]});
  }
  saturate(result, t, kRoundings);
  return result;
}

}  // namespace

std::vector<std::string> rows_of(Form form) {
  if (form == Form::single) return {"N"};
  if (form == Form::gated) return {"N", "N"};
  return {"Nq", "Nk", "Nv"};
}

std::vector<spec::Reference64> reference_of(const Kind& kind,
                                            const std::vector<const void*>& inputs, Dtype t,
                                            const Dims& dims, const std::vector<double>& scalars) {
  const std::vector<std::string> rows = rows_of(kind.form);
  const size_t each = kind.quantised ? 3 : 1, norm = 1 + rows.size() * each;
  const Rows64 x = rows_in_float64(inputs[0], inputs[norm], t, dims, scalars[0]);
  std::vector<Products> made;
  for (size_t i = 0; i < rows.size(); ++i) {
    const void* const* arrays = &inputs[1 + i * each];
    const Stored stored = kind.quantised ? Stored{arrays[0], arrays[1], arrays[2]}
                                         : Stored{arrays[0], nullptr, nullptr};
    made.push_back(products_of(x, stored, t, dims, dims.at(rows[i])));
  }
  if (kind.form == Form::gated) return {gated(made[0], made[1], t, dims)};
  std::vector<spec::Reference64> result;
  for (size_t i = 0; i < rows.size(); ++i) {
    const void* const bias = dims.at("has_bias") ? inputs[norm + 1 + i] : nullptr;
    const void* const residual =
        kind.form == Form::single && dims.at("has_residual") ? inputs[norm + 2] : nullptr;
    result.push_back(summed(made[i], bias, residual, t, dims.at(rows[i])));
  }
  return result;
}

spec::ErrorBound bound_of(const Kind& kind) {
  std::string text =
      "1e-6 of the sum of |x| (|scale code| + |bias|) for float32 sums, before the product is "
      "rounded to the type. With a norm, x is rounded as MLX rounds it; elements that a float32 "
      "scale rounds another way are charged at the largest term.";
  if (kind.form == Form::gated)
    text += " Both products are rounded, carried through the slopes of the result.";
  else
    text += " Each sum with a bias or a residual is rounded once more.";
  return {kRoundings, text};
}

}  // namespace mlx_kd::kernels::matmul
