// Singular values and vectors.
#include <mlx/linalg.h>
#include <mlx/ops.h>

#include <algorithm>
#include <cmath>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/linalg/groups.h"
#include "mlx_kd/kernels/linalg/spectra.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {
namespace svd {
namespace {

using spec::Dims;
using spec::Dtype;
using spec::Shape;
using spectra::Matrix;
namespace mx = mlx::core;

constexpr int64_t kFull = 0, kThin = 1, kValues = 2;

int64_t short_side(const Dims& dims) {
  return std::min(dims.at("m"), dims.at("n"));
}
int64_t long_side(const Dims& dims) {
  return std::max(dims.at("m"), dims.at("n"));
}

// Of a side of the matrix, how many vectors there are.
int64_t vectors(const Dims& dims, const char* side) {
  const int64_t form = dims.at("form");
  return form == kFull ? dims.at(side) : form == kThin ? short_side(dims) : 0;
}

Shape u_of(const Dims& dims) {
  const int64_t count = vectors(dims, "m");
  return {dims.at("batch"), count ? dims.at("m") : 0, count};
}
Shape s_of(const Dims& dims) {
  return {dims.at("batch"), short_side(dims)};
}
Shape vt_of(const Dims& dims) {
  const int64_t count = vectors(dims, "n");
  return {dims.at("batch"), count, count ? dims.at("n") : 0};
}

Dims complete(const Dims& dims) {
  if (short_side(dims) > groups::kMostColumns)
    base::misuse("kernels", "the matrices are " + std::to_string(dims.at("m")) + " x " +
                                std::to_string(dims.at("n")) +
                                ": svd takes those of at most 512 rows or columns");
  if (dims.at("form") > kValues)
    base::misuse("kernels", "form is " + std::to_string(dims.at("form")) +
                                ": give 0 (all vectors), 1 (min(m, n) of them) or 2 (none)");
  return dims;
}

// On a CPU. It takes float32 and float64, and a matrix with a NaN makes it throw.
spec::Op::Arrays composition(const spec::Op::Arrays& in, std::span<const double> numbers,
                             const mx::Stream&) {
  const mx::Stream s = mx::default_stream(mx::Device::cpu);
  const mx::array a = in[0].dtype() == mx::float64 ? in[0] : mx::astype(in[0], mx::float32, s);
  const mx::Shape batch{a.shape().begin(), a.shape().end() - 2};
  const auto form = static_cast<int64_t>(numbers[0]);
  const auto stored = [&](const mx::array& x) { return mx::astype(x, in[0].dtype(), s); };
  spec::Op::Arrays found;
  for (const mx::array& x : mx::linalg::svd(a, form != kValues, s)) found.push_back(stored(x));
  const mx::array info = mx::zeros(batch, mx::int32, s);
  if (form == kValues) {
    mx::Shape none = batch;
    none.insert(none.end(), {0, 0});
    const mx::array nothing = mx::zeros(none, in[0].dtype(), s);
    return {nothing, found[0], nothing, info};
  }
  if (form == kThin) {
    const int k = std::min(a.shape(-2), a.shape(-1));
    found[0] = mx::take(found[0], mx::arange(k, s), -1, s);
    found[2] = mx::take(found[2], mx::arange(k, s), -2, s);
  }
  return {found[0], found[1], found[2], info};
}

// A bidiagonal matrix, its values and vectors, X V, and a sweep of Jacobi's method.
spec::Cost cost(const Dims& dims, Dtype dtype) {
  const auto k = static_cast<double>(short_side(dims)),
             length = static_cast<double>(long_side(dims));
  const auto batch = static_cast<double>(dims.at("batch"));
  const int64_t elements = dims.at("m") * dims.at("n") +
                           spec::element_count(u_of(dims)) / dims.at("batch") + short_side(dims) +
                           spec::element_count(vt_of(dims)) / dims.at("batch");
  return {batch * (static_cast<double>(elements * spec::size_of(dtype)) + 4),
          batch * k * k * (16.0 / 3 * k + 10 * length)};
}

void fill(const spec::FillRequest& request) {
  const int64_t m = request.dims.at("m"), n = request.dims.at("n");
  base::Random random(request.seed * 37 + static_cast<uint64_t>(request.distribution));
  for (int64_t index = 0; index < request.dims.at("batch"); ++index)
    spectra::write_matrix(request.inputs[0], index * m * n, request.t,
                          spectra::proof_matrix(m, n, false, index, request, random));
}

struct Found {
  double residual = 0, of_u = 0, of_v = 0, values = 0, disorder = 0, wrong_info = 0, not_nan = 0;
};

struct Factors {
  Matrix u, s, vt;
};

Factors read_factors(const spec::JudgedCase& judged, int64_t index) {
  const int64_t m = judged.dims.at("m"), n = judged.dims.at("n"), k = short_side(judged.dims);
  const int64_t wide = vectors(judged.dims, "m"), high = vectors(judged.dims, "n");
  return {spectra::read_matrix(judged.outputs[0], index * m * wide, judged.t, wide ? m : 0, wide),
          spectra::read_matrix(judged.outputs[1], index * k, judged.t, 1, k),
          spectra::read_matrix(judged.outputs[2], index * high * n, judged.t, high, high ? n : 0)};
}

// |A - U diag(s) V^T|_1
double residual_of(const Matrix& a, const Factors& f) {
  Matrix scaled(a.rows, f.s.columns), first(f.s.columns, a.columns);
  for (int64_t i = 0; i < a.rows; ++i)
    for (int64_t j = 0; j < f.s.columns; ++j) scaled.at(i, j) = f.u.at(i, j) * f.s.at(0, j);
  for (int64_t j = 0; j < f.s.columns; ++j) std::copy_n(f.vt.row(j), a.columns, first.row(j));
  return linalg::norm1(a - scaled * first);
}

void judge_values(const Matrix& a, const Matrix& s, double rounding, Found& found) {
  const std::vector<double> exact = spectra::singular_values(a);
  for (int64_t i = 0; i < s.columns; ++i)
    linalg::take(found.values, std::fabs(s.at(0, i) - exact[static_cast<size_t>(i)]) /
                                   std::max(exact.front() * rounding, 1e-300));
}

void judge_matrix(const spec::JudgedCase& judged, int64_t index, Found& found) {
  const int64_t m = judged.dims.at("m"), n = judged.dims.at("n");
  const Matrix a = spectra::read_matrix(judged.inputs[0], index * m * n, judged.t, m, n);
  const Factors f = read_factors(judged, index);
  const bool good = linalg::is_finite(a);
  found.wrong_info += spec::load_integer(judged.outputs[3], index, Dtype::int32) != !good;
  if (!good) {
    for (const Matrix* each : {&f.u, &f.s, &f.vt}) found.not_nan += !linalg::is_all_nan(*each);
    return;
  }
  for (int64_t i = 0; i < f.s.columns; ++i)
    found.disorder += !(f.s.at(0, i) >= 0) || (i && !(f.s.at(0, i) <= f.s.at(0, i - 1)));
  const double rounding = spectra::rounding(std::max(m, n), judged.t);
  if (judged.dims.at("form") == kValues) return judge_values(a, f.s, rounding, found);
  linalg::take(found.residual, residual_of(a, f) / std::max(linalg::norm1(a) * rounding, 1e-300));
  linalg::take(found.of_u, spectra::distance_from_orthogonal(f.u) / rounding);
  linalg::take(found.of_v, spectra::distance_from_orthogonal(linalg::transposed(f.vt)) / rounding);
}

std::vector<spec::Residual> residuals(const spec::JudgedCase& judged) {
  Found found;
  for (const int64_t index : linalg::judged_matrices(judged)) judge_matrix(judged, index, found);
  return {{"|A - U S V^T| / (|A| (max(m, n) eps + u))", found.residual},
          {"|I - U^T U| / (max(m, n) eps + u)", found.of_u},
          {"|I - V^T V| / (max(m, n) eps + u)", found.of_v},
          {"the largest |s - s64| / (|A|_2 (max(m, n) eps + u))", found.values},
          {"the count of singular values below 0 or not in order", found.disorder, 0},
          {"the count of wrong info", found.wrong_info, 0},
          {"the count of results of failed matrices that are not NaN", found.not_nan, 0}};
}

// As svd_floats of the source.
std::vector<int64_t> scratch_cpu(Dtype dtype, const Dims& dims, const spec::Setting& knobs) {
  const int64_t k = short_side(dims), length = long_side(dims);
  const int64_t rows = dims.at("form") == kFull ? length : k, line = groups::stride_of(length);
  const int64_t floats = groups::eigen_floats(k, knobs) + length * groups::stride_of(k) + k * line +
                         rows * line + 4 * groups::padded(length) + 4 * groups::padded(k);
  return {groups::tasks(dims, knobs) * floats * linalg::word_of(dtype)};
}

spec::Space space_cpu(Dtype dtype, const spec::DeviceTraits& traits) {
  spec::Space space = groups::cpu_space(dtype, traits);
  space.knobs.push_back({"BLOCK",
                         {16, 8, 32},
                         spec::KnobScale::log2,
                         spec::KnobRole::source,
                         "columns that are paired with as many others at a time"});
  return space;
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "The singular value decomposition A = U diag(s) V^T of each matrix of a batch, and which "
      "matrices have none. 16-bit types are computed in float32 and rounded once.";
  doc.parameters = {
      {"a", "[..., m, n], min(m, n) at most 512"},
      {"form", "0: all columns of U and rows of V^T; 1: the first min(m, n) of each; 2: s alone"}};
  doc.returns =
      "u [..., m, m or min(m, n)], s [..., min(m, n)], not negative and descending, vt "
      "[..., n or min(m, n), n], with form 2 u and vt [..., 0, 0]; and info, int32 [...]: 0, 1 "
      "where an element is not finite, 2 where the method did not converge. Such a matrix gives "
      "NaN alone; the others of the batch are not affected.";
  doc.errors = "a is not of a floating-point type.";
  return doc;
}

Dims size(int64_t batch, int64_t m, int64_t n, int64_t form = kFull) {
  return {{"batch", batch}, {"m", m}, {"n", n}, {"form", form}};
}

// As the head of svd.metal has it.
std::vector<int64_t> scratch_metal(Dtype, const Dims& dims, const spec::Setting&) {
  const int64_t k = short_side(dims), length = long_side(dims);
  const int64_t rows = dims.at("form") == kFull ? length : k;
  return {dims.at("batch") * (rows * length + k * k + 2 * k + length + rows) * 4};
}

// As floats_of in svd.cu.
groups::Turned turned(const Dims& dims) {
  const auto line = [](int64_t n) { return (n + 3) / 4 * 4; };
  const int64_t k = short_side(dims), length = long_side(dims);
  const int64_t rows = dims.at("form") == kFull ? length : k;
  const int64_t vectors = dims.at("form") == kValues ? 0 : k * line(k);
  return {k, length, rows * line(length) + vectors + 2 * line(k) + line(length) + line(rows)};
}

}  // namespace
}  // namespace svd

spec::Op make_svd() {
  using namespace svd;
  using spec::Judge;
  spec::Op op;
  op.name = "svd";
  op.summary = "singular values and vectors of a batch of matrices";
  op.doc = doc();
  op.inputs = {{"a", [](const Dims& d) { return Shape{d.at("batch"), d.at("m"), d.at("n")}; }}};
  op.outputs = {{"u", u_of, {}, Judge::residuals},
                {"s", s_of, {}, Judge::residuals},
                {"vt", vt_of, {}, Judge::residuals},
                {"info", [](const Dims& dims) { return Shape{dims.at("batch")}; }, Dtype::int32,
                 Judge::residuals}};
  op.dims = {{"batch", spec::Dim::Kind::dim, true, true},
             {"m"},
             {"n"},
             {.name = "form", .kind = spec::Dim::Kind::attribute}};
  op.batch_dim = "batch";
  op.types.push_back(Dtype::float64);
  op.suites = {
      {"small", {size(256, 4, 4), size(256, 8, 8), size(64, 16, 16)}},
      {"batches", {size(64, 64, 64), size(1024, 32, 32), size(4096, 16, 16), size(256, 128, 128)}},
      {"values", {size(64, 64, 64, 2), size(1024, 32, 32, 2), size(256, 128, 128, 2)}},
      {"tall", {size(64, 256, 32, 1), size(1, 100000, 32, 1)}},
      {"single", {size(1, 64, 64), size(1, 128, 128), size(1, 256, 256)}}};
  op.edge_sizes = {size(1, 1, 1),     size(5, 3, 5, 1),  size(9, 16, 16), size(5, 9, 4),
                   size(3, 40, 7, 1), size(4, 5, 17, 2), size(3, 33, 36), size(2, 20, 50, 1)};
  op.complete = complete;
  op.cost = cost;
  op.composition = composition;
  op.gradient.by = spec::Gradient::By::none;
  op.fill = svd::fill;
  op.residuals = svd::residuals;
  op.variants = groups::variants("svd", space_cpu, scratch_cpu, scratch_metal, turned);
  return op;
}

}  // namespace mlx_kd::kernels
