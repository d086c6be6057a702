// l2_topk: the rows of base of least squared L2 distance to each query.
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/vectors/flat.h"

namespace mlx_kd::kernels {

spec::Op make_l2_topk() {
  spec::Op op = vectors::flat_op("l2_topk", vectors::Metric::l2);
  op.summary = "the k rows of base of least squared L2 distance to each query";
  op.doc.brief =
      "The k rows of base of least squared L2 distance to each query, chosen while distances are "
      "computed, without a matrix of distances in memory. A distance is within 8 u (|q|^2 + |x|^2) "
      "of the exact one; rows whose exact distances differ by less than both errors may change "
      "places.";
  op.doc.parameters = {
      {"queries", "float32 [M, D]."}, {"base", "float32 [N, D]."}, {"k", "1 to 1,024."}};
  op.doc.returns =
      "Distances, float32 [M, k], the least first, and ids, int64 [M, k]; equal distances by their "
      "ids. Rows with NaN or at an infinite distance are never found. Where fewer than k are, the "
      "rest has the id -1 and the largest float32.";
  op.doc.errors = "If the arrays do not go together, or k is out of range.";
  return op;
}

}  // namespace mlx_kd::kernels
