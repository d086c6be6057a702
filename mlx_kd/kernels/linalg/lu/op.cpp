#include <mlx/linalg.h>
#include <mlx/ops.h>

#include <algorithm>

#include "mlx_kd/kernels/linalg/batches.h"
#include "mlx_kd/kernels/linalg/lu/residuals.h"
#include "mlx_kd/kernels/linalg/matrices.h"
#include "mlx_kd/kernels/linalg/systems.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_lu();

namespace lu {
namespace {

using spec::Dims;
using spec::Dtype;
namespace mx = mlx::core;

// On a CPU: MLX throws elsewhere, and reports no failure.
spec::Op::Arrays composition(const spec::Op::Arrays& in, std::span<const double>,
                             const mx::Stream&) {
  const mx::Stream s = mx::default_stream(mx::Device::cpu);
  const auto [lu, pivots] = mx::linalg::lu_factor(in[0], s);
  return {lu, pivots, pivots, linalg::no_info(in[0], s)};
}

spec::Port pivots_port() {
  spec::Port port = linalg::integers("pivots", {}, Dtype::uint32);
  port.shape = [](const Dims& dims) {
    return spec::Shape{dims.at("batch"), std::min(dims.at("m"), dims.at("n"))};
  };
  return port;
}

double flops(const Dims& dims) {
  const auto m = static_cast<double>(dims.at("m")), n = static_cast<double>(dims.at("n"));
  const double k = std::min(m, n);
  return k * k * (std::max(m, n) - k / 3);
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "P A = L U of each matrix of a batch, with partial pivoting. L and U are packed: L has a "
      "unit diagonal, which is not stored.";
  doc.parameters = {{"a", "[..., m, n], float32 or, on a CPU, float64"}};
  doc.returns =
      "LU [..., m, n]; pivots, uint32 [..., min(m, n)]: row i was exchanged with row pivots[i]; "
      "permutation, uint32 [..., m]: row i of P A is row permutation[i] of A; info, int32 "
      "[...]: 0, or the first column of A, from 1, without a pivot that is finite. LU of such a "
      "matrix is NaN, its pivots and permutation exchange nothing. A singular matrix has zeros on "
      "the diagonal of U.";
  doc.errors = "a is of another type, or has fewer than two axes.";
  return doc;
}

Dims size(int64_t batch, int64_t m, int64_t n) {
  return {{"batch", batch}, {"m", m}, {"n", n}};
}

}  // namespace
}  // namespace lu

spec::Op make_lu() {
  using namespace lu;
  spec::Op op = linalg::op_on({.name = "lu",
                               .summary = "LU factorisations of a batch of matrices",
                               .inputs = {linalg::floats("a", {"m", "n"})},
                               .outputs = {linalg::floats("lu", {"m", "n"}), pivots_port(),
                                           linalg::integers("permutation", {"m"}, Dtype::uint32),
                                           linalg::integers("info", {})},
                               .dims = {{"m"}, {"n"}},
                               .flops = flops});
  op.doc = doc();
  op.suites = linalg::square_suites({"m", "n"}, {});
  op.edge_sizes = {size(6, 1, 1),    size(9, 2, 3),    size(21, 7, 4),    size(13, 17, 17),
                   size(11, 33, 50), size(5, 100, 60), size(1, 260, 300), size(1, 300, 260)};
  op.composition = composition;
  op.fill = [](const spec::FillRequest& request) {
    linalg::fill_matrices(request, request.dims.at("m"), request.dims.at("n"), true);
  };
  op.residuals = lu::residuals;
  op.variants = {
      linalg::lu_variant({.op = "lu", .finish = "mlx_kd_lu_store", .by_rows = true}),
      linalg::metal_variant("lu", [](const Dims& dims) { return dims.at("m") * dims.at("n"); }),
      linalg::cuda_variant({.op = "lu", .keeps_left = true})};
  return op;
}

}  // namespace mlx_kd::kernels
