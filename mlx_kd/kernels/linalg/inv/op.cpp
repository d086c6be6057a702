#include <mlx/linalg.h>
#include <mlx/ops.h>

#include "mlx_kd/kernels/linalg/batches.h"
#include "mlx_kd/kernels/linalg/judges.h"
#include "mlx_kd/kernels/linalg/systems.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_inv();

namespace inv {
namespace {

using spec::Dims;
using spec::Dtype;
namespace mx = mlx::core;

// On a CPU: MLX throws elsewhere, and reports no failure.
spec::Op::Arrays composition(const spec::Op::Arrays& in, std::span<const double>,
                             const mx::Stream&) {
  const mx::Stream s = mx::default_stream(mx::Device::cpu);
  return {mx::linalg::inv(in[0], s), linalg::no_info(in[0], s)};
}

double flops(const Dims& dims) {
  const auto n = static_cast<double>(dims.at("n"));
  return 2 * n * n * n;
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief = "The inverse of each matrix of a batch, by P A = L U with partial pivoting.";
  doc.parameters = {{"a", "[..., n, n], float32 or, on a CPU, float64"}};
  doc.returns =
      "The inverse [..., n, n] and info, int32 [...]: 0, or the first column of A, from 1, "
      "without a pivot that is finite and not 0; the inverse of such a matrix is NaN.";
  doc.errors = "a is of another type, or its last two axes differ.";
  return doc;
}

Dims size(int64_t batch, int64_t n) {
  return {{"batch", batch}, {"n", n}};
}

}  // namespace
}  // namespace inv

spec::Op make_inv() {
  using namespace inv;
  spec::Op op = linalg::op_on(
      {.name = "inv",
       .summary = "inverses of a batch of matrices",
       .inputs = {linalg::floats("a", {"n", "n"})},
       .outputs = {linalg::floats("inverse", {"n", "n"}), linalg::integers("info", {})},
       .dims = {{"n"}},
       .flops = flops});
  op.doc = doc();
  op.suites = linalg::square_suites({"n"}, {});
  op.edge_sizes = {size(6, 1),   size(9, 2),   size(21, 5), size(13, 17),
                   size(11, 33), size(5, 100), size(1, 260)};
  op.composition = composition;
  op.fill = [](const spec::FillRequest& request) {
    linalg::fill_matrices(request, request.dims.at("n"), request.dims.at("n"), true);
  };
  op.residuals = [](const spec::JudgedCase& judged) {
    return linalg::general_residuals(judged, true);
  };
  op.variants = {
      linalg::lu_variant({.op = "inv",
                          .finish = "mlx_kd_inv_sides",
                          .sides = [](const Dims& dims) { return dims.at("n"); }}),
      linalg::metal_variant("inv",
                            [](const Dims& dims) { return 2 * dims.at("n") * dims.at("n"); }),
      linalg::cuda_variant({.op = "inv", .sides = [](const Dims& dims) { return dims.at("n"); }})};
  return op;
}

}  // namespace mlx_kd::kernels
