// ip_topk: the rows of base of largest inner product with each query.
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/vectors/flat.h"

namespace mlx_kd::kernels {

spec::Op make_ip_topk() {
  spec::Op op = vectors::flat_op("ip_topk", vectors::Metric::inner);
  op.summary = "the k rows of base of largest inner product with each query";
  op.doc.brief =
      "The k rows of base of largest inner product with each query, chosen while products are "
      "computed, without a matrix of products in memory. A product is within 8 u (|q|^2 + |x|^2) "
      "of "
      "the exact one; rows whose exact products differ by less than both errors may change places.";
  op.doc.parameters = {
      {"queries", "float32 [M, D]."}, {"base", "float32 [N, D]."}, {"k", "1 to 1,024."}};
  op.doc.returns =
      "Products, float32 [M, k], the largest first, and ids, int64 [M, k]; equal products by their "
      "ids. Rows whose product is NaN or -inf are never found. Where fewer than k are, the rest "
      "has "
      "the id -1 and the lowest float32.";
  op.doc.errors = "If the arrays do not go together, or k is out of range.";
  return op;
}

}  // namespace mlx_kd::kernels
