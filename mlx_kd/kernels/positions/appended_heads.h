// New heads whose queries and keys are normed and rotated, and whose keys and values go into a
// cache: what the operators share that write one. q is (B, Hq, M, D), k (B, Hk, M, D), v (B, Hk, M,
// Dv).
#pragma once

#include <vector>

#include "mlx_kd/kernels/positions/normed_heads.h"

namespace mlx_kd::kernels {

// The ports q, k and v.
std::vector<spec::Port> new_head_ports();

// Fills them, q at index `first`: v by the normal distribution, q by the request's, and k as well
// unless `plain_keys`.
void fill_new_heads(const spec::FillRequest& request, size_t first, bool plain_keys = false);

// Copies `count` elements from `at` of one reference to `place` of another.
void put_elements(const spec::Reference64& from, int64_t at, int64_t count, spec::Reference64& to,
                  int64_t place);

// Rows that are read and written; of a cache the new ones alone, as they are.
spec::Cost cost_of_append(const spec::Dims& dims, spec::Dtype dtype);

}  // namespace mlx_kd::kernels
