// New rows of a cache (B, H, S, D): where they go is an int32 for all batch rows, or one for each
// (the attribute ragged). A batch row whose M new rows do not fit at its place is left as it is.
#pragma once

#include <mlx/array.h>

#include "mlx_kd/spec/op.h"

namespace mlx_kd::kernels {

spec::Shape new_rows_shape(const spec::Dims& dims);  // of the places

// Of batch row b: the first of its new rows, or -1.
int64_t first_new_row(const void* places, const spec::Dims& dims, int64_t b);

// The cache with new rows `added` (B, H, M, D) at `places`.
mlx::core::array appended_in_mlx(const mlx::core::array& cache, const mlx::core::array& added,
                                 const mlx::core::array& places, const mlx::core::Stream& stream);

// Writes places of a proof; some do not fit where the distribution is special.
void fill_new_rows(const spec::FillRequest& request, void* places);

}  // namespace mlx_kd::kernels
