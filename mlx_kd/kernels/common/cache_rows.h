// Where the new rows of a cache go: an offset for all batch rows, or one for each.
#pragma once

#include "mlx_kd/base/random.h"
#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels {

// Of the dims B, M, S and the attribute `ragged` (1: an offset for each batch row).
spec::Dims complete_places(const spec::Dims& dims);
spec::Shape offset_shape(const spec::Dims& dims);
// (B, H, length, width).
std::function<spec::Shape(const spec::Dims&)> cache_rows(const char* length, const char* width);
// The port `offset`.
spec::Port offset_port();

// Of batch row b: where the new rows go, or -1 where they do not fit.
int64_t first_row(const void* offsets, const spec::Dims& dims, int64_t b);

// The caches with `added` in their rows, as MLX computes it: those of a batch row whose offset does
// not fit stay. caches[i] takes added[i]; offset is int32, of one or B.
spec::Op::Arrays append_in_mlx(spec::Op::Arrays caches, const spec::Op::Arrays& added,
                               const mlx::core::array& offset, const mlx::core::Stream& s);

// Offsets for a proof; some do not fit where the distribution is special.
void fill_offsets(const spec::FillRequest& request, size_t port, base::Random& random);

}  // namespace mlx_kd::kernels
