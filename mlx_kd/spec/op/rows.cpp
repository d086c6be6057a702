#include "mlx_kd/spec/op/rows.h"

#include <algorithm>

namespace mlx_kd::spec {

const std::string& rows_dim(const Op& op) {
  static const std::string queries = "M";
  const auto has = [&](const std::string& name) {
    return std::any_of(op.dims.begin(), op.dims.end(),
                       [&](const Dim& dim) { return dim.name == name; });
  };
  return op.batch_dim == "S" && op.mlx_rows && has(queries) ? queries : op.batch_dim;
}

Dims with_rows(const Op& op, const Dims& dims, int64_t most) {
  const std::string& rows = rows_dim(op);
  if (rows.empty()) return dims;
  Dims given;
  for (const Dim& dim : op.dims)
    given.set(dim.name, dim.name == rows ? std::min(most, dims.at(dim.name)) : dims.at(dim.name));
  return complete(op, given);
}

}  // namespace mlx_kd::spec
