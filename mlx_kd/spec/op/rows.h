// The rows of an operator: parts of a problem that are alike, and do not depend on each other.
#pragma once

#include <string>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::spec {

// The batch dim. Where that counts keys (S), which every row reads, and the op states `mlx_rows`:
// the queries, M.
const std::string& rows_dim(const Op& op);

// The same size with `most` rows, or as it is. Fewer queries are the last ones.
Dims with_rows(const Op& op, const Dims& dims, int64_t most);

}  // namespace mlx_kd::spec
