#include "mlx_kd/kernels/matmul/reference.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "mlx_kd/kernels/common/reference64.h"
#include "mlx_kd/kernels/matmul/weights64.h"

namespace mlx_kd::kernels::matmul {
namespace {

using spec::Dims;
using spec::Dtype;

// float32 roundings that a product charges on S: 1e-6 S.
constexpr double kRoundings = 16;
constexpr int64_t kMostTerms = int64_t(1) << 27;  // of a reference that gives all elements
constexpr int64_t kSamples = 16384;               // scattered elements of one that does not

double rounded(double value, Dtype t) {
  uint32_t bits = 0;
  spec::store_element(&bits, 0, t, static_cast<float>(value));
  return spec::load_element(&bits, 0, t);
}

struct Rows64 {
  std::vector<double> x;  // (M, K), as it is multiplied
  // How far each element may be from it: a scale that is off by kRoundings makes float32 round some
  // elements to a neighbour. Empty without a norm.
  std::vector<double> off;
};

// x after a norm with the scale, rounded as MLX rounds it.
double normalised(double x, double scale, double weight, Dtype t) {
  return rounded(rounded(x * scale, t) * weight, t);
}

Rows64 rows_in_float64(const void* x, const void* norm, Dtype t, const Dims& dims, double eps) {
  const int64_t m = dims.at("M"), k = dims.at("K");
  Rows64 rows{load_all(x, m * k, t), {}};
  if (!dims.at("has_norm")) return rows;
  const std::vector<double> w = load_all(norm, k, t);
  for (int64_t i = 0; i < m; ++i) {
    const auto row = rows.x.begin() + i * k;
    double sum = 0;
    for (int64_t j = 0; j < k; ++j) sum += row[j] * row[j];
    const double scale = 1 / std::sqrt(sum / static_cast<double>(k) + static_cast<float>(eps));
    const double less = scale * (1 - kRoundings * 0x1p-24),
                 more = scale * (1 + kRoundings * 0x1p-24);
    for (int64_t j = 0; j < k; ++j) {
      const double weight = w[static_cast<size_t>(j)];
      const double y = normalised(row[j], scale, weight, t);
      const double below = std::fabs(normalised(row[j], less, weight, t) - y);
      const double above = std::fabs(normalised(row[j], more, weight, t) - y);
      rows.off.push_back(std::isfinite(y) ? std::max(below, above) : 0);
      row[j] = y;
    }
  }
  return rows;
}

// One matrix times x: (M, N) each.
struct Products {
  std::vector<double> y, terms;
  std::vector<double> charged;  // what is rounded to the type on the way
  // What subnormals that are flushed, and elements of x that were rounded another way, may add.
  std::vector<double> absolute;
  std::vector<bool> left_out;  // elements that were not computed; empty: all were
};

void add(Products& to, const Products& more) {
  const auto append_all = [](std::vector<double>& all, const std::vector<double>& part) {
    all.insert(all.end(), part.begin(), part.end());
  };
  append_all(to.y, more.y);
  append_all(to.terms, more.terms);
  append_all(to.charged, more.charged);
  append_all(to.absolute, more.absolute);
}

// The rows of x whose products with one row of W are computed: all, or where only some are, the
// first, the last and a few others; with the first and the last row of W, as many as are asked for.
std::vector<int64_t> rows_to_compute(int64_t m, int64_t n, int64_t row, bool some) {
  std::vector<int64_t> result;
  const int64_t step = some ? (row == 0 || row == n - 1 ? 1 + m / kSamples : m) : 1;
  for (int64_t i = 0; i < m; i += step) result.push_back(i);
  if (!some) return result;
  std::set<int64_t> chosen(result.begin(), result.end());
  chosen.insert(m - 1);
  const auto wanted = std::min<size_t>(static_cast<size_t>(m),
                                       chosen.size() + 1 + static_cast<size_t>(kSamples / n));
  base::Random random(static_cast<uint64_t>(row * 31 + m));
  while (chosen.size() < wanted)
    chosen.insert(static_cast<int64_t>(random.below(static_cast<uint64_t>(m))));
  return {chosen.begin(), chosen.end()};
}

// Of `m` rows of x (m, k), each element of which may be `all_off` from it; null: none is.
Products products_of(const double* all_x, const double* all_off, int64_t m, const Stored& stored,
                     Dtype t, const Dims& dims, int64_t n, bool some = false) {
  const int64_t k = dims.at("K");
  const std::vector<double> zeros(static_cast<size_t>(m * n));
  Products made{zeros, zeros, zeros, zeros, std::vector<bool>(some ? zeros.size() : 0, true)};
  for (int64_t row = 0; row < n; ++row) {
    const Row64 w = row_of(format_of(dims), stored, t, row, k);
    for (const int64_t i : rows_to_compute(m, n, row, some)) {
      const double* const x = all_x + i * k;
      double y = 0, terms = 0, off = 0, weights = 0;
      for (int64_t j = 0; j < k; ++j) {
        const auto at = static_cast<size_t>(j);
        y += x[j] * w.w[at];
        terms += std::fabs(x[j]) * w.magnitudes[at];
        if (all_off) off += all_off[i * k + j] * std::fabs(w.w[at]);
        weights += w.magnitudes[at];
      }
      const auto at = static_cast<size_t>(i * n + row);
      made.y[at] = y;
      made.terms[at] = terms;
      made.charged[at] = std::fabs(y) + off;
      made.absolute[at] = off + 0x1p-126 * weights + underflow(t);
      if (some) made.left_out[at] = false;
    }
  }
  return made;
}

// Value `at` of a bias, added to element i of the products, which are rounded before and after.
void add_value(Products& made, size_t i, const void* values, int64_t at, Dtype t) {
  const double value = spec::load_element(values, at, t);
  made.y[i] += value;
  made.charged[i] += std::fabs(made.y[i]);
  made.terms[i] += std::fabs(value);
}

spec::Reference64 gated(const Products& gate, const Products& up, Dtype t, const Dims& dims) {
  const double u = spec::unit_roundoff(t);
  spec::Reference64 result;
  for (size_t i = 0; i < gate.y.size(); ++i) {
    const int64_t activation = dims.at("activation");
    const double g = gate.y[i], second_sum = up.y[i];
    const double b = activation == 2 ? (second_sum > 7    ? 7
                                        : second_sum < -7 ? -7
                                                          : second_sum) +
                                           1
                                     : second_sum;
    const Activated a = activated(g, activation);
    const double y = a.y * b, by_gate = std::fabs(a.slope * b), by_up = std::fabs(a.y);
    const auto off = [&](const Products& of) {
      return u * of.charged[i] + kRoundings * 0x1p-24 * of.terms[i] + of.absolute[i];
    };
    // Both products are off by a rounding and more; what is of second order has a slope of at
    // most 1.
    const double second = off(gate) * off(gate) * std::fabs(b) + 1.2 * off(gate) * off(up);
    append(result, {y, std::fabs(y) + by_gate * gate.charged[i] + by_up * up.charged[i],
                    by_gate * gate.terms[i] + by_up * up.terms[i] +
                        std::fabs(y) * (1 + std::min(a.exponent, 90.0) / 4),
                    underflow(t) + second + by_gate * gate.absolute[i] + by_up * up.absolute[i] +
                        0x1p-126 * std::fabs(b)});
  }
  saturate(result, t, kRoundings);
  return result;
}

spec::Reference64 stored_of(const Products& made, Dtype t) {
  spec::Reference64 result;
  for (size_t i = 0; i < made.y.size(); ++i)
    append(result, {made.y[i], made.charged[i], made.terms[i], made.absolute[i]});
  saturate(result, t, kRoundings);
  return result;
}

spec::Reference64 summed(Products made, const void* bias, const void* residual, Dtype t,
                         int64_t n) {
  for (size_t i = 0; i < made.y.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    if (bias) add_value(made, i, bias, at % n, t);
    if (residual) add_value(made, i, residual, at, t);
  }
  return stored_of(made, t);
}

// Elements that were not computed are 0, with no bound.
void leave_out(const Products& made, spec::Reference64& result) {
  for (size_t i = 0; i < made.left_out.size(); ++i) {
    if (!made.left_out[i]) continue;
    result.y[i] = result.rounded[i] = result.terms[i] = 0;
    result.absolute[i] = spec::kUnchecked;
  }
}

// One matrix an expert, times the row of x of each pair; NaN where there is no such expert.
Products products_of_experts(const std::vector<double>& x, const uint32_t* ids, const Stored& all,
                             const void* biases, Dtype t, const Dims& dims) {
  const int64_t n = dims.at("N"), k = dims.at("K"), chosen = dims.at("A");
  const Format format = format_of(dims);
  const bool is_dense = format.mode == kDense;
  const int64_t row_bytes = is_dense ? k * spec::size_of(t) : k * format.bits / 8;
  const int64_t scale_bytes =
      is_dense ? 0 : k / format.group * (format.mode == kAffine ? spec::size_of(t) : 1);
  const auto part = [](const void* from, int64_t bytes) {
    return from ? static_cast<const char*>(from) + bytes : nullptr;
  };
  Products made;
  for (int64_t pair = 0; pair < dims.at("M") * chosen; ++pair) {
    const int64_t expert = ids[pair];
    if (expert >= dims.at("E")) {
      const std::vector<double> missing(static_cast<size_t>(n), std::nan(""));
      add(made, {missing, missing, missing, missing, {}});
      continue;
    }
    const int64_t row = dims.at("per_pair") ? pair : pair / chosen, first = expert * n;
    const Stored stored = {part(all.codes, first * row_bytes),
                           part(all.scales, first * scale_bytes),
                           part(all.biases, first * scale_bytes)};
    Products some = products_of(x.data() + row * k, nullptr, 1, stored, t, dims, n);
    if (dims.at("has_bias"))
      for (int64_t i = 0; i < n; ++i) add_value(some, static_cast<size_t>(i), biases, first + i, t);
    add(made, some);
  }
  return made;
}

}  // namespace

Activated activated(double g, int64_t activation) {
  const double c = std::sqrt(2 / 3.14159265358979323846);
  if (activation == 2) g = g > 7 ? 7 : g;
  const double inner = activation == 1   ? 2 * c * (g + 0.044715 * g * g * g)
                       : activation == 2 ? 1.702f * g
                                         : g;
  const double inner_slope = activation == 1   ? 2 * c * (1 + 3 * 0.044715 * g * g)
                             : activation == 2 ? 1.702f
                                               : 1;
  const double sigmoid = 1 / (1 + std::exp(-inner));
  const double sigmoid_slope = sigmoid * (1 - sigmoid) * inner_slope;
  return {g * sigmoid, sigmoid + (std::isfinite(g) && sigmoid_slope > 0 ? g * sigmoid_slope : 0),
          std::fabs(inner)};
}

bool is_sampled(const Kind& kind, const Dims& dims) {
  int64_t n = 0;
  for (const std::string& rows : rows_of(kind.form)) n += dims.at(rows);
  const double elements = static_cast<double>(dims.at("M")) * static_cast<double>(n);
  return elements > static_cast<double>(4 * kSamples) &&
         elements * static_cast<double>(dims.at("K")) > static_cast<double>(kMostTerms);
}

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
  const bool some = is_sampled(kind, dims);
  std::vector<Products> made;
  for (size_t i = 0; i < rows.size(); ++i) {
    const void* const* arrays = &inputs[1 + i * each];
    const Stored stored = kind.quantised ? Stored{arrays[0], arrays[1], arrays[2]}
                                         : Stored{arrays[0], nullptr, nullptr};
    made.push_back(products_of(x.x.data(), x.off.empty() ? nullptr : x.off.data(), dims.at("M"),
                               stored, t, dims, dims.at(rows[i]), some));
  }
  std::vector<spec::Reference64> result;
  if (kind.form == Form::gated) {
    result.push_back(gated(made[0], made[1], t, dims));
    leave_out(made[0], result[0]);
    return result;
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    const void* const bias = dims.at("has_bias") ? inputs[norm + 1 + i] : nullptr;
    const void* const residual =
        kind.form == Form::single && dims.at("has_residual") ? inputs[norm + 2] : nullptr;
    result.push_back(summed(made[i], bias, residual, t, dims.at(rows[i])));
    leave_out(made[i], result[i]);
  }
  return result;
}

std::vector<spec::Reference64> reference_of_experts(const Kind& kind,
                                                    const std::vector<const void*>& inputs,
                                                    spec::Dtype t, const spec::Dims& dims) {
  const size_t matrices = rows_of(kind.form).size(), each = kind.quantised ? 3 : 1;
  const int64_t rows = dims.at("M") * (dims.at("per_pair") ? dims.at("A") : 1);
  const std::vector<double> x = load_all(inputs[0], rows * dims.at("K"), t);
  std::vector<Products> made;
  for (size_t i = 0; i < matrices; ++i) {
    const void* const* const arrays = &inputs[2 + each * i];
    const Stored stored = kind.quantised ? Stored{arrays[0], arrays[1], arrays[2]}
                                         : Stored{arrays[0], nullptr, nullptr};
    made.push_back(products_of_experts(x, static_cast<const uint32_t*>(inputs[1]), stored,
                                       inputs[2 + each * matrices + i], t, dims));
  }
  if (kind.form == Form::gated) return {gated(made[0], made[1], t, dims)};
  return {stored_of(made[0], t)};
}

spec::ErrorBound bound_of_experts(const Kind& kind) {
  std::string text =
      "1e-6 of the sum of |x| (|scale code| + |bias|) for float32 sums, before the product is "
      "rounded to the type. Its sum with a bias is rounded once more.";
  if (kind.form == Form::gated) text += " Both sums are carried through the slopes of the result.";
  return {kRoundings, text};
}

spec::ErrorBound bound_of(const Kind& kind) {
  std::string text =
      "1e-6 of the sum of |x| (|scale code| + |bias|) for float32 sums, before the product is "
      "rounded to the type. With a norm, x is rounded as MLX rounds it; an element that a scale "
      "off "
      "by 16 float32 roundings rounds another way is charged its step times its weight.";
  if (kind.form == Form::gated)
    text += " Both products are rounded, carried through the slopes of the result.";
  else
    text += " Each sum with a bias or a residual is rounded once more.";
  text +=
      " Of products of more than 2^27 terms at least 16,384 elements are checked, the first and "
      "last rows and columns among them.";
  return {kRoundings, text};
}

}  // namespace mlx_kd::kernels::matmul
