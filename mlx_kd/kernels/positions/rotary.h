// What the operators of rotary position embedding share: rotations in float64 and in MLX,
// positions, knobs. Attributes: dims (0: the whole row), traditional, ragged, has_freqs; scalars:
// base, scale.
#pragma once

#include <mlx/array.h>

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mlx_kd/kernels/common/shapes.h"
#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels {

// The last attributes of each of them.
std::vector<spec::Dim> rotary_attributes();
spec::Scalar rotary_base();
spec::Scalar rotary_scale();

// The size with dims in full and with ragged only where there are several batch rows. Misuse where
// dims is odd or beyond the width D.
spec::Dims complete_rotary(const spec::Dims& dims);

// Shapes of ports.
spec::Port rotary_offset();                          // (1), or (B) where it is ragged: any int32
spec::Shape freqs_shape_of(const spec::Dims& dims);  // (dims / 2), if there are any

// Values of dims (in full), ragged and has_freqs of a call whose offset and freqs have these
// shapes. Throws std::invalid_argument, "[op] ..", where they do not fit.
struct RotaryShapes {
  int64_t batch, width;
  std::span<const int32_t> offset, freqs;
};
struct RotaryDims {
  int64_t &dims, &ragged, &has_freqs;
};
void read_rotary(const char* op, const RotaryShapes& shapes, const RotaryDims& dims);

struct MlxRotation {
  int dims;
  bool traditional;
  double base, scale;
  mlx::core::array offset;
  std::optional<mlx::core::array> freqs;
};
mlx::core::array rotated_in_mlx(const mlx::core::array& x, const MlxRotation& by,
                                const mlx::core::Stream& s);

// Writes rows, by the distribution; where values are special, the first row has an infinity and the
// last one a NaN, zeros and subnormals.
void fill_rows(const spec::FillRequest& request, void* to, int64_t count, int64_t port);

// Writes offsets, and frequencies if there are any: small positions where values are special, large
// ones where they are of all magnitudes.
void fill_offsets(const spec::FillRequest& request, void* offsets);
void fill_freqs(const spec::FillRequest& request, void* freqs);

// The rows of one port in float64.
struct RotaryRows {
  std::vector<double> x;
  std::vector<double> weight;  // of the norm; empty: there is none
  int64_t heads;               // x is (B, heads, M, D)
};
struct RotaryNumbers {
  double eps, base, scale;
  const void* offset;
  const void* freqs;
  double accumulated;  // of the op's bound
};
spec::Reference64 rotated_in_float64(const RotaryRows& rows, const RotaryNumbers& numbers,
                                     spec::Dtype dtype, const spec::Dims& dims);
// float32 roundings of a rotation alone; the text belongs to a derivation.
inline constexpr double kRotaryRoundings = 8;
inline constexpr const char* kRotaryDerivation =
    "The result is rounded once. Two products and their sum, and a cosine and a sine that are off "
    "by 2 each: 8 of |a| + |b|. An angle is off by 3 + 3 |log2 f| of itself in float32, f being "
    "the "
    "frequency: that much more of |a| + |b|.";

// Rows read and written, `weights` elements of norms, offsets and frequencies.
spec::Cost rotary_cost(const spec::Dims& dims, int64_t elements, int64_t weights,
                       spec::Dtype dtype);

spec::Space cpu_rotary_space(spec::Dtype dtype, const spec::DeviceTraits& traits);
spec::Launch launch_cpu_rotary(const spec::Dims& dims, const spec::Setting& knobs);
// A simdgroup for each row, of `heads` heads in all.
spec::Space metal_rotary_space(spec::Dtype dtype, const spec::DeviceTraits& traits);
spec::Launch launch_metal_rotary(const spec::Dims& dims, int64_t heads, const spec::Setting& knobs);

}  // namespace mlx_kd::kernels
