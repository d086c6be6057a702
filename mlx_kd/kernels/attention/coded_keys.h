// Keys and values that are codes, scales and biases: what operators share that attend over them.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/attention/weighted_rows.h"
#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::attention {

// "" or what is wrong with codes of heads of these widths.
std::string wrong_coded_heads(int64_t bits, int64_t group, int64_t dk, int64_t dv);

// Knobs of CPU kernels that read them a tile at a time; `keys`: values of KEYS.
spec::Space coded_space(spec::Dtype dtype, const spec::DeviceTraits& traits,
                        std::vector<int64_t> keys);

// `count` elements of rows of codes; `port` is that of the codes, before their scales and biases.
// Dims: bits and group_size.
SizedNumbers numbers_of_codes(const std::vector<const void*>& in, size_t port, spec::Dtype t,
                              const spec::Dims& dims, int64_t count);

// Codes, scales and biases of `count` elements of about `size`.
void fill_codes(const spec::FillRequest& request, size_t port, int64_t count, double size,
                base::Random& random);

}  // namespace mlx_kd::kernels::attention
