#include <mlx/linalg.h>
#include <mlx/ops.h>

#include "mlx_kd/kernels/linalg/batches.h"
#include "mlx_kd/kernels/linalg/judges.h"
#include "mlx_kd/kernels/linalg/systems.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_solve_triangular();

namespace solve_triangular {
namespace {

using spec::Dims;
using spec::Dtype;
namespace mx = mlx::core;

// On a CPU: MLX throws elsewhere, and reports no failure.
spec::Op::Arrays composition(const spec::Op::Arrays& in, std::span<const double> numbers,
                             const mx::Stream&) {
  const mx::Stream s = mx::default_stream(mx::Device::cpu);
  const bool upper = numbers[0] != 0, transposed = numbers[1] != 0;
  mx::array t = in[0];
  if (numbers[2] != 0) t = mx::where(mx::eye(t.shape(-1), mx::bool_, s), mx::array(1.0f), t, s);
  if (transposed) t = mx::swapaxes(t, -1, -2, s);
  return {mx::linalg::solve_triangular(t, in[1], upper != transposed, s),
          linalg::no_info(in[0], s)};
}

double flops(const Dims& dims) {
  const auto n = static_cast<double>(dims.at("n"));
  return n * n * static_cast<double>(dims.at("k"));
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief = "The solution X of T X = B for each triangular matrix T of a batch, or of T^T X = B.";
  doc.parameters = {{"a", "[..., n, n], float32 or, on a CPU, float64"},
                    {"b", "[..., n, k], of the type and with the leading axes of a"},
                    linalg::upper_parameter(),
                    {"transposed", "1: T^T X = B is solved"},
                    {"unit", "1: the diagonal of T is 1 and is not read"}};
  doc.returns =
      "X [..., n, k] and info, int32 [...]: 0, or the first row of the triangle, from 1, whose "
      "diagonal is 0 or of which an element is not finite; X of such a matrix is NaN.";
  doc.errors = "a is of another type, or its last two axes differ, or b does not go with it.";
  return doc;
}

Dims size(int64_t batch, int64_t n, int64_t k, int64_t upper = 0, int64_t transposed = 0,
          int64_t unit = 0) {
  return {{"batch", batch},           {"n", n},      {"k", k}, {"upper", upper},
          {"transposed", transposed}, {"unit", unit}};
}

std::vector<Dims> edge_sizes() {
  return {size(6, 1, 1),
          size(9, 2, 3, 1),
          size(21, 5, 1, 0, 1),
          size(13, 17, 40, 1, 1, 1),
          size(11, 33, 1, 0, 0, 1),
          size(5, 100, 7, 1, 0, 1),
          size(1, 260, 33, 0, 1, 1),
          size(1, 270, 1, 1, 1)};
}

std::vector<spec::Residual> residuals(const spec::JudgedCase& judged) {
  return linalg::triangular_residuals(judged, false, [](const spec::JudgedCase& each, int64_t m) {
    const linalg::Matrix t = linalg::read_triangle(each, m);
    return std::vector<linalg::Matrix>{each.dims.at("transposed") != 0 ? linalg::transposed(t) : t};
  });
}

}  // namespace
}  // namespace solve_triangular

spec::Op make_solve_triangular() {
  using namespace solve_triangular;
  spec::Op op =
      linalg::op_on({.name = "solve_triangular",
                     .summary = "solutions of triangular systems for a batch of matrices",
                     .inputs = {linalg::floats("a", {"n", "n"}), linalg::floats("b", {"n", "k"})},
                     .outputs = {linalg::floats("x", {"n", "k"}), linalg::integers("info", {})},
                     .dims = {{"n"},
                              {"k"},
                              linalg::attribute("upper"),
                              linalg::attribute("transposed"),
                              linalg::attribute("unit")},
                     .flops = flops});
  op.doc = doc();
  op.suites =
      linalg::square_suites({"n"}, {{"k", 1}, {"upper", 0}, {"transposed", 0}, {"unit", 0}});
  op.edge_sizes = edge_sizes();
  op.complete = [](const Dims& dims) {
    for (const char* choice : {"upper", "transposed", "unit"})
      linalg::check_choice("solve_triangular", dims, choice, 1, "0 or 1");
    return dims;
  };
  op.composition = composition;
  op.fill = [](const spec::FillRequest& request) {
    linalg::fill_triangles(request);
    linalg::fill_sides(request);
  };
  op.residuals = solve_triangular::residuals;
  op.variants = {linalg::triangle_variant({.op = "solve_triangular",
                                           .finish = "mlx_kd_triangle_sides",
                                           .sides = [](const Dims& dims) { return dims.at("k"); }}),
                 linalg::metal_variant(
                     "solve_triangular",
                     [](const Dims& dims) { return dims.at("n") * (dims.at("n") + dims.at("k")); }),
                 linalg::cuda_variant({.op = "solve_triangular",
                                       .sides = [](const Dims& dims) { return dims.at("k"); },
                                       .by_panels = false})};
  return op;
}

}  // namespace mlx_kd::kernels
