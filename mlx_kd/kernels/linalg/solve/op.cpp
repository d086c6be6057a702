#include <mlx/linalg.h>
#include <mlx/ops.h>

#include "mlx_kd/kernels/linalg/batches.h"
#include "mlx_kd/kernels/linalg/judges.h"
#include "mlx_kd/kernels/linalg/systems.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_solve();

namespace solve {
namespace {

using spec::Dims;
using spec::Dtype;
namespace mx = mlx::core;

// On a CPU: MLX throws elsewhere, and reports no failure.
spec::Op::Arrays composition(const spec::Op::Arrays& in, std::span<const double>,
                             const mx::Stream&) {
  const mx::Stream s = mx::default_stream(mx::Device::cpu);
  return {mx::linalg::solve(in[0], in[1], s), linalg::no_info(in[0], s)};
}

double flops(const Dims& dims) {
  const auto n = static_cast<double>(dims.at("n"));
  return n * n * (2 * n / 3 + 2 * static_cast<double>(dims.at("k")));
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "The solution X of A X = B for each matrix A of a batch, by P A = L U with partial "
      "pivoting.";
  doc.parameters = {{"a", "[..., n, n], float32 or, on a CPU, float64"},
                    {"b", "[..., n, k], of the type and with the leading axes of a"}};
  doc.returns =
      "X [..., n, k] and info, int32 [...]: 0, or the first column of A, from 1, without a "
      "pivot that is finite and not 0; X of such a matrix is NaN.";
  doc.errors = "a is of another type, or its last two axes differ, or b does not go with it.";
  return doc;
}

Dims size(int64_t batch, int64_t n, int64_t k) {
  return {{"batch", batch}, {"n", n}, {"k", k}};
}

}  // namespace
}  // namespace solve

spec::Op make_solve() {
  using namespace solve;
  spec::Op op =
      linalg::op_on({.name = "solve",
                     .summary = "solutions of A X = B for a batch of matrices",
                     .inputs = {linalg::floats("a", {"n", "n"}), linalg::floats("b", {"n", "k"})},
                     .outputs = {linalg::floats("x", {"n", "k"}), linalg::integers("info", {})},
                     .dims = {{"n"}, {"k"}},
                     .flops = flops});
  op.doc = doc();
  op.suites = linalg::square_suites({"n"}, {{"k", 1}});
  op.edge_sizes = {size(6, 1, 1),   size(9, 2, 3),   size(21, 5, 1),  size(13, 17, 40),
                   size(11, 33, 1), size(5, 100, 7), size(1, 260, 33)};
  op.composition = composition;
  op.fill = [](const spec::FillRequest& request) {
    linalg::fill_matrices(request, request.dims.at("n"), request.dims.at("n"), true);
    linalg::fill_sides(request);
  };
  op.residuals = [](const spec::JudgedCase& judged) {
    return linalg::general_residuals(judged, false);
  };
  op.variants = {
      linalg::lu_variant({.op = "solve",
                          .finish = "mlx_kd_solve_sides",
                          .sides = [](const Dims& dims) { return dims.at("k"); }}),
      linalg::metal_variant(
          "solve", [](const Dims& dims) { return dims.at("n") * (dims.at("n") + dims.at("k")); }),
      linalg::cuda_variant(
          {.op = "solve", .sides = [](const Dims& dims) { return dims.at("k"); }})};
  return op;
}

}  // namespace mlx_kd::kernels
