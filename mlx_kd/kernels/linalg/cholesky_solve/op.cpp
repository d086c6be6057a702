#include <mlx/linalg.h>
#include <mlx/ops.h>

#include "mlx_kd/kernels/linalg/batches.h"
#include "mlx_kd/kernels/linalg/judges.h"
#include "mlx_kd/kernels/linalg/systems.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_cholesky_solve();

namespace cholesky_solve {
namespace {

using spec::Dims;
using spec::Dtype;
namespace mx = mlx::core;

// On a CPU: MLX throws elsewhere, and reports no failure.
spec::Op::Arrays composition(const spec::Op::Arrays& in, std::span<const double> numbers,
                             const mx::Stream&) {
  const mx::Stream s = mx::default_stream(mx::Device::cpu);
  const bool upper = numbers[0] != 0;
  const mx::array other = mx::swapaxes(in[0], -1, -2, s);
  const mx::array y = mx::linalg::solve_triangular(upper ? other : in[0], in[1], false, s);
  return {mx::linalg::solve_triangular(upper ? in[0] : other, y, true, s),
          linalg::no_info(in[0], s)};
}

double flops(const Dims& dims) {
  const auto n = static_cast<double>(dims.at("n"));
  return 2 * n * n * static_cast<double>(dims.at("k"));
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "The solution X of L L^T X = B, or of U^T U X = B with upper, for each Cholesky factor of "
      "a batch.";
  doc.parameters = {{"a", "[..., n, n], float32 or, on a CPU, float64"},
                    {"b", "[..., n, k], of the type and with the leading axes of a"},
                    linalg::upper_parameter()};
  doc.returns =
      "X [..., n, k] and info, int32 [...]: 0, or the first row of the triangle, from 1, whose "
      "diagonal is 0 or of which an element is not finite; X of such a matrix is NaN.";
  doc.errors = "a is of another type, or its last two axes differ, or b does not go with it.";
  return doc;
}

Dims size(int64_t batch, int64_t n, int64_t k, int64_t upper = 0) {
  return {{"batch", batch}, {"n", n}, {"k", k}, {"upper", upper}};
}

}  // namespace
}  // namespace cholesky_solve

spec::Op make_cholesky_solve() {
  using namespace cholesky_solve;
  spec::Op op =
      linalg::op_on({.name = "cholesky_solve",
                     .summary = "solutions for a batch of matrices from their Cholesky factors",
                     .inputs = {linalg::floats("a", {"n", "n"}), linalg::floats("b", {"n", "k"})},
                     .outputs = {linalg::floats("x", {"n", "k"}), linalg::integers("info", {})},
                     .dims = {{"n"}, {"k"}, linalg::attribute("upper")},
                     .flops = flops});
  op.doc = doc();
  op.suites = linalg::square_suites({"n"}, {{"k", 1}, {"upper", 0}});
  op.edge_sizes = {size(6, 1, 1),   size(9, 2, 3, 1),   size(21, 5, 1),   size(13, 17, 40, 1),
                   size(11, 33, 1), size(5, 100, 7, 1), size(1, 260, 33), size(1, 270, 1, 1)};
  op.complete = [](const Dims& dims) {
    linalg::check_choice("cholesky_solve", dims, "upper", 1, "0 or 1");
    return dims;
  };
  op.composition = composition;
  op.fill = [](const spec::FillRequest& request) {
    linalg::fill_triangles(request);
    linalg::fill_sides(request);
  };
  op.residuals = [](const spec::JudgedCase& judged) {
    return linalg::triangular_residuals(judged, false, linalg::factor_and_transpose);
  };
  op.variants = {linalg::triangle_variant({.op = "cholesky_solve",
                                           .finish = "mlx_kd_triangle_sides",
                                           .sides = [](const Dims& dims) { return dims.at("k"); },
                                           .triangles = 2}),
                 linalg::metal_variant(
                     "cholesky_solve",
                     [](const Dims& dims) { return dims.at("n") * (dims.at("n") + dims.at("k")); }),
                 linalg::cuda_variant({.op = "cholesky_solve",
                                       .sides = [](const Dims& dims) { return dims.at("k"); },
                                       .by_panels = false})};
  return op;
}

}  // namespace mlx_kd::kernels
