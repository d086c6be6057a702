// What products and products of experts have in common on the host: sizes read off arrays, MLX's
// activations, inputs of proofs, knobs.
#pragma once

#include <mlx/array.h>

#include <array>
#include <span>
#include <string>
#include <vector>

#include "mlx_kd/kernels/common/shapes.h"
#include "mlx_kd/kernels/matmul/products.h"
#include "mlx_kd/kernels/matmul/weights64.h"

namespace mlx_kd::kernels::matmul {

// An input that cannot be; `wanted`: what it must be.
[[noreturn]] void refuse(const spec::Op& op, size_t port, const spec::ArrayView& array,
                         const std::string& wanted);

// The format that the arrays of a quantised matrix have, or of one an expert: codes, scales and
// biases from input `first` on. What it cannot be is refused. Allocates only where it refuses.
Format read_format(const spec::Op& op, size_t first, std::span<const spec::ArrayView> in,
                   int64_t k);

mlx::core::array activated_in_mlx(const mlx::core::array& g, bool is_gelu,
                                  const mlx::core::Stream& s);

// Elements of x for a proof.
void fill_values(void* to, int64_t count, const spec::FillRequest& request, base::Random& random);

// Knobs of a kernel of products on a CPU.
spec::Space cpu_space(const Kind& kind, spec::Dtype t, const spec::DeviceTraits& traits);

// That many rows of x, prepared; that many rows of W in tasks of whole batches of the kernel, of
// at least two.
spec::Launch prepare_rows(int64_t rows, const spec::Setting& knobs);
spec::Launch share_rows(int64_t rows, const spec::Setting& knobs);

// Rows of x of a tile, by VEC and DOT; a panel has as many rows of W as two vectors hold floats.
// (tiles.cpu.h)
int64_t tile_rows(const spec::Setting& knobs);

// The variant that reads two streams of rows: all but its stages and scratch. (rows.cpu.h)
spec::Variant cpu_variant(const Kind& kind, const std::string& name);

// The ports of a quantised matrix: codes, scales and biases under these names, with axes of these
// dims in front of the columns.
void add_quantised(const std::array<std::string, 3>& names, const std::vector<std::string>& axes,
                   std::vector<spec::Port>& ports);

}  // namespace mlx_kd::kernels::matmul
