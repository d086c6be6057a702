#include <mlx/linalg.h>
#include <mlx/ops.h>

#include "mlx_kd/kernels/linalg/batches.h"
#include "mlx_kd/kernels/linalg/judges.h"
#include "mlx_kd/kernels/linalg/systems.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_tri_inv();

namespace tri_inv {
namespace {

using spec::Dims;
using spec::Dtype;
namespace mx = mlx::core;

// On a CPU: MLX throws elsewhere, and reports no failure.
spec::Op::Arrays composition(const spec::Op::Arrays& in, std::span<const double> numbers,
                             const mx::Stream&) {
  const mx::Stream s = mx::default_stream(mx::Device::cpu);
  return {mx::linalg::tri_inv(in[0], numbers[0] != 0, s), linalg::no_info(in[0], s)};
}

double flops(const Dims& dims) {
  const auto n = static_cast<double>(dims.at("n"));
  return n * n * n / 3;
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief = "The inverse of each triangular matrix of a batch.";
  doc.parameters = {{"a", "[..., n, n], float32 or, on a CPU, float64"}, linalg::upper_parameter()};
  doc.returns =
      "The inverse [..., n, n], whose other triangle is 0, and info, int32 [...]: 0, or the "
      "first row of the triangle, from 1, whose diagonal is 0 or of which an element is not "
      "finite; the inverse of such a matrix is NaN.";
  doc.errors = "a is of another type, or its last two axes differ.";
  return doc;
}

Dims size(int64_t batch, int64_t n, int64_t upper = 0) {
  return {{"batch", batch}, {"n", n}, {"upper", upper}};
}

}  // namespace
}  // namespace tri_inv

spec::Op make_tri_inv() {
  using namespace tri_inv;
  spec::Op op = linalg::op_on(
      {.name = "tri_inv",
       .summary = "inverses of a batch of triangular matrices",
       .inputs = {linalg::floats("a", {"n", "n"})},
       .outputs = {linalg::floats("inverse", {"n", "n"}), linalg::integers("info", {})},
       .dims = {{"n"}, linalg::attribute("upper")},
       .flops = flops});
  op.doc = doc();
  op.suites = linalg::square_suites({"n"}, {{"upper", 0}});
  op.edge_sizes = {size(6, 1),   size(9, 2, 1),   size(21, 5),  size(13, 17, 1),
                   size(11, 33), size(5, 100, 1), size(1, 260), size(1, 270, 1)};
  op.complete = [](const Dims& dims) {
    linalg::check_choice("tri_inv", dims, "upper", 1, "0 or 1");
    return dims;
  };
  op.composition = composition;
  op.fill = [](const spec::FillRequest& request) { linalg::fill_triangles(request); };
  op.residuals = [](const spec::JudgedCase& judged) {
    return linalg::triangular_residuals(judged, true, [](const spec::JudgedCase& each, int64_t m) {
      const linalg::Matrix t = linalg::read_triangle(each, m);
      return std::vector<linalg::Matrix>{t};
    });
  };
  op.variants = {linalg::triangle_variant({.op = "tri_inv",
                                           .finish = "mlx_kd_triangle_sides",
                                           .sides = [](const Dims& dims) { return dims.at("n"); }}),
                 linalg::metal_variant(
                     "tri_inv", [](const Dims& dims) { return 2 * dims.at("n") * dims.at("n"); }),
                 linalg::cuda_variant({.op = "tri_inv",
                                       .sides = [](const Dims& dims) { return dims.at("n"); },
                                       .by_panels = false})};
  return op;
}

}  // namespace mlx_kd::kernels
