// The eigenvalues and vectors of symmetric matrices.
#include <mlx/linalg.h>
#include <mlx/ops.h>

#include <algorithm>
#include <cmath>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/linalg/batches.h"
#include "mlx_kd/kernels/linalg/groups.h"
#include "mlx_kd/kernels/linalg/spectra.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {
namespace eigh {
namespace {

using spec::Dims;
using spec::Dtype;
using spec::Shape;
using spectra::Matrix;
namespace mx = mlx::core;

Dims complete(const Dims& dims) {
  if (dims.at("n") > groups::kMostColumns)
    base::misuse("kernels", "n is " + std::to_string(dims.at("n")) +
                                ": eigh takes matrices of at most 512 columns");
  for (const char* name : {"upper", "values"})
    if (dims.at(name) > 1)
      base::misuse("kernels",
                   std::string(name) + " is " + std::to_string(dims.at(name)) + ": give 0 or 1");
  return dims;
}

Shape values_of(const Dims& dims) {
  return {dims.at("batch"), dims.at("n")};
}

Shape vectors_of(const Dims& dims) {
  const int64_t n = dims.at("values") ? 0 : dims.at("n");
  return {dims.at("batch"), n, n};
}

// On a CPU. It takes float32 and float64, and a matrix with a NaN may make it throw.
spec::Op::Arrays composition(const spec::Op::Arrays& in, std::span<const double> numbers,
                             const mx::Stream&) {
  const mx::Stream s = mx::default_stream(mx::Device::cpu);
  const mx::array a = in[0].dtype() == mx::float64 ? in[0] : mx::astype(in[0], mx::float32, s);
  const std::string triangle = numbers[0] != 0 ? "U" : "L";
  const mx::Shape batch{a.shape().begin(), a.shape().end() - 2};
  const mx::array info = mx::zeros(batch, mx::int32, s);
  if (numbers[1] != 0) {
    mx::Shape none = batch;
    none.insert(none.end(), {0, 0});
    return {mx::astype(mx::linalg::eigvalsh(a, triangle, s), in[0].dtype(), s),
            mx::zeros(none, in[0].dtype(), s), info};
  }
  const auto [w, v] = mx::linalg::eigh(a, triangle, s);
  return {mx::astype(w, in[0].dtype(), s), mx::astype(v, in[0].dtype(), s), info};
}

// Tridiagonal form, its reflections, and about 1.7 sweeps of rotations an eigenvalue.
spec::Cost cost(const Dims& dims, Dtype dtype) {
  const auto n = static_cast<double>(dims.at("n")), batch = static_cast<double>(dims.at("batch"));
  const bool values = dims.at("values") != 0;
  const double elements = n * (n + 1) / 2 + n + (values ? 0 : n * n);
  return {batch * (elements * static_cast<double>(spec::size_of(dtype)) + 4),
          batch * n * n * n * (values ? 4.0 / 3 : 20.0 / 3)};
}

void fill(const spec::FillRequest& request) {
  const int64_t n = request.dims.at("n");
  const bool upper = request.dims.at("upper") != 0;
  base::Random random(request.seed * 31 + static_cast<uint64_t>(request.distribution));
  for (int64_t m = 0; m < request.dims.at("batch"); ++m) {
    Matrix a = spectra::proof_matrix(n, n, true, m, request, random);
    if (request.distribution == spec::Distribution::magnitudes)  // in the triangle nobody reads
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < i; ++j) (upper ? a.at(i, j) : a.at(j, i)) = 7;
    spectra::write_matrix(request.inputs[0], m * n * n, request.t, a);
  }
}

Matrix read_symmetric(const void* data, int64_t at, Dtype t, int64_t n, bool upper) {
  Matrix a = spectra::read_matrix(data, at, t, n, n);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < i; ++j)
      (upper ? a.at(i, j) : a.at(j, i)) = upper ? a.at(j, i) : a.at(i, j);
  return a;
}

// Ascending: the singular values of the matrix moved to be positive, less what it was moved by.
std::vector<double> eigenvalues(Matrix a) {
  const double move = 2 * linalg::norm1(a);
  for (int64_t i = 0; i < a.rows; ++i) a.at(i, i) += move;
  std::vector<double> values = spectra::singular_values(a);
  for (double& value : values) value -= move;
  std::reverse(values.begin(), values.end());
  return values;
}

struct Found {
  double residual = 0, orthogonal = 0, values = 0, disorder = 0, wrong_info = 0, not_nan = 0;
};

// |A V - V diag(w)|_1
double residual_of(const Matrix& a, const Matrix& v, const Matrix& w) {
  Matrix scaled = v;
  for (int64_t i = 0; i < v.rows; ++i)
    for (int64_t j = 0; j < v.columns; ++j) scaled.at(i, j) *= w.at(0, j);
  return linalg::norm1(a * v - scaled);
}

void judge_values(const Matrix& a, const Matrix& w, double rounding, Found& found) {
  const std::vector<double> exact = eigenvalues(a);
  const double size = std::max(std::fabs(exact.front()), std::fabs(exact.back()));
  for (int64_t i = 0; i < a.rows; ++i)
    linalg::take(found.values, std::fabs(w.at(0, i) - exact[static_cast<size_t>(i)]) /
                                   std::max(size * rounding, 1e-300));
}

void judge_matrix(const spec::JudgedCase& judged, int64_t m, Found& found) {
  const int64_t n = judged.dims.at("n");
  const Matrix a =
      read_symmetric(judged.inputs[0], m * n * n, judged.t, n, judged.dims.at("upper") != 0);
  const bool values = judged.dims.at("values") != 0, good = linalg::is_finite(a);
  const int64_t size = values ? 0 : n;
  const Matrix w = spectra::read_matrix(judged.outputs[0], m * n, judged.t, 1, n);
  const Matrix v = spectra::read_matrix(judged.outputs[1], m * n * n, judged.t, size, size);
  found.wrong_info += spec::load_integer(judged.outputs[2], m, Dtype::int32) != !good;
  if (!good) {
    found.not_nan += !linalg::is_all_nan(w) + !linalg::is_all_nan(v);
    return;
  }
  for (int64_t i = 1; i < n; ++i) found.disorder += !(w.at(0, i) >= w.at(0, i - 1));
  const double rounding = spectra::rounding(n, judged.t);
  if (values) return judge_values(a, w, rounding, found);
  linalg::take(found.residual,
               residual_of(a, v, w) / std::max(linalg::norm1(a) * rounding, 1e-300));
  linalg::take(found.orthogonal, spectra::distance_from_orthogonal(v) / rounding);
}

std::vector<spec::Residual> residuals(const spec::JudgedCase& judged) {
  Found found;
  for (const int64_t m : linalg::judged_matrices(judged)) judge_matrix(judged, m, found);
  return {{"|A V - V W| / (|A| (n eps + u))", found.residual},
          {"|I - V^T V| / (n eps + u)", found.orthogonal},
          {"the largest |w - w64| / (|A| (n eps + u))", found.values},
          {"the count of eigenvalues that are not in order", found.disorder, 0},
          {"the count of wrong info", found.wrong_info, 0},
          {"the count of results of failed matrices that are not NaN", found.not_nan, 0}};
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "The eigenvalues and eigenvectors of each symmetric matrix of a batch, and which matrices "
      "have none. Only the lower triangle is read, or the upper one. 16-bit types are computed in "
      "float32 and rounded once; float64 is for CPUs.";
  doc.parameters = {{"a", "[..., n, n], n at most 512"},
                    {"upper", "whether the upper triangle is read"},
                    {"values", "whether the eigenvalues alone are computed"}};
  doc.returns =
      "The eigenvalues [..., n], ascending; the vectors [..., n, n] as columns, [..., 0, 0] with "
      "values; and info, int32 [...]: 0, 1 where an element is not finite, 2 where the method did "
      "not converge. Such a matrix gives NaN alone; the others of the batch are not affected.";
  doc.errors = "a is not of a floating-point type, or its last two axes differ.";
  return doc;
}

Dims size(int64_t batch, int64_t n, int64_t upper = 0, int64_t values = 0) {
  return {{"batch", batch}, {"n", n}, {"upper", upper}, {"values", values}};
}

// Matrices, then rows of one matrix: as eigen_floats of the sources.
std::vector<int64_t> scratch_cpu(Dtype t, const Dims& dims, const spec::Setting& knobs) {
  return {groups::tasks(dims, knobs) * groups::eigen_floats(dims.at("n"), knobs) *
          linalg::word_of(t)};
}

std::vector<int64_t> scratch_metal(Dtype, const Dims& dims, const spec::Setting&) {
  const int64_t n = dims.at("n");
  return {dims.at("batch") * (2 * n * n + n) * 4};
}

// As floats_of in eigh.cu.
groups::Turned turned(const Dims& dims) {
  const int64_t n = dims.at("n"), line = (n + 3) / 4 * 4;
  return {n, n, n * line * (dims.at("values") ? 1 : 2) + 2 * line};
}

}  // namespace
}  // namespace eigh

spec::Op make_eigh() {
  using namespace eigh;
  using spec::Judge;
  spec::Op op;
  op.name = "eigh";
  op.summary = "eigenvalues and vectors of a batch of symmetric matrices";
  op.doc = doc();
  op.inputs = {{"a", [](const Dims& d) { return Shape{d.at("batch"), d.at("n"), d.at("n")}; }}};
  op.outputs = {{"w", values_of, {}, Judge::residuals},
                {"v", vectors_of, {}, Judge::residuals},
                {"info", [](const Dims& dims) { return Shape{dims.at("batch")}; }, Dtype::int32,
                 Judge::residuals}};
  op.dims = {{"batch", spec::Dim::Kind::dim, true, true},
             {"n"},
             {.name = "upper", .kind = spec::Dim::Kind::attribute},
             {.name = "values", .kind = spec::Dim::Kind::attribute}};
  op.batch_dim = "batch";
  op.types.push_back(Dtype::float64);
  op.suites = {{"small", {size(256, 4), size(256, 8), size(64, 16)}},
               {"batches", {size(64, 64), size(1024, 32), size(4096, 16), size(256, 128)}},
               {"values", {size(64, 64, 0, 1), size(1024, 32, 0, 1), size(256, 128, 0, 1)}},
               {"single", {size(1, 64), size(1, 128), size(1, 256), size(1, 512)}}};
  op.edge_sizes = {size(1, 1),     size(5, 3),        size(9, 16, 1), size(4, 17, 0, 1),
                   size(3, 33, 1), size(2, 65, 1, 1), size(11, 8)};
  op.complete = complete;
  op.cost = cost;
  op.composition = composition;
  op.gradient.by = spec::Gradient::By::none;
  op.fill = eigh::fill;
  op.residuals = eigh::residuals;
  op.variants = groups::variants("eigh", groups::cpu_space, scratch_cpu, scratch_metal, turned);
  return op;
}

}  // namespace mlx_kd::kernels
