#include <mlx/linalg.h>
#include <mlx/ops.h>

#include "mlx_kd/kernels/linalg/batches.h"
#include "mlx_kd/kernels/linalg/matrices.h"
#include "mlx_kd/kernels/linalg/slogdet/residuals.h"
#include "mlx_kd/kernels/linalg/systems.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_slogdet();

namespace slogdet {
namespace {

using spec::Dims;
using spec::Dtype;
namespace mx = mlx::core;

// On a CPU: MLX throws elsewhere, and reports no failure.
spec::Op::Arrays composition(const spec::Op::Arrays& in, std::span<const double>,
                             const mx::Stream&) {
  const mx::Stream s = mx::default_stream(mx::Device::cpu);
  const auto [sign, logabsdet] = mx::linalg::slogdet(in[0], s);
  return {sign, logabsdet, linalg::no_info(in[0], s)};
}

double flops(const Dims& dims) {
  const auto n = static_cast<double>(dims.at("n"));
  return 2 * n * n * n / 3;
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "The sign of the determinant of each matrix of a batch, and the natural logarithm of its "
      "absolute value, by P A = L U with partial pivoting.";
  doc.parameters = {{"a", "[..., n, n], float32 or, on a CPU, float64"}};
  doc.returns =
      "sign [...] and logabsdet [...], 0 and -infinity where the matrix is singular, NaN where "
      "it has a NaN or an infinity; info, int32 [...]: 0, or the first column of A, from 1, "
      "without a pivot that is finite and not 0.";
  doc.errors = "a is of another type, or its last two axes differ.";
  return doc;
}

Dims size(int64_t batch, int64_t n) {
  return {{"batch", batch}, {"n", n}};
}

}  // namespace
}  // namespace slogdet

spec::Op make_slogdet() {
  using namespace slogdet;
  spec::Op op =
      linalg::op_on({.name = "slogdet",
                     .summary = "sign and logarithm of the determinants of a batch of matrices",
                     .inputs = {linalg::floats("a", {"n", "n"})},
                     .outputs = {linalg::floats("sign", {}), linalg::floats("logabsdet", {}),
                                 linalg::integers("info", {})},
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
  op.residuals = slogdet::residuals;
  op.variants = {linalg::lu_variant({.op = "slogdet", .finish = "mlx_kd_slogdet_sum"}),
                 linalg::metal_variant(
                     "slogdet", [](const Dims& dims) { return dims.at("n") * dims.at("n"); }),
                 linalg::cuda_variant({.op = "slogdet"})};
  return op;
}

}  // namespace mlx_kd::kernels
