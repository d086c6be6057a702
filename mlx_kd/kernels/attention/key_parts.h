// Attention on a CPU, a block of query rows of one key head at a time, or of HEADS of them, which
// take turns; their keys are shared among units, in parts, where there are fewer than threads can
// use.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::attention {

int64_t blocks_of(const spec::Dims& dims, int64_t rows);

// Blocks that differ in their key head alone, HEADS of them together; one by one without that knob.
int64_t shares_of(const spec::Dims& dims, const spec::Setting& knobs);

// Parts of each block's keys: enough for four units a thread, of KEYS keys at least.
int64_t parts_of(const spec::Dims& dims, const spec::Setting& knobs);

// KEYS, of which the first value is the default.
spec::Knob keys_knob(std::vector<int64_t> values);

// The stage `function`, whose index is the number of parts, and <function>_merge if there is more
// than one.
std::vector<spec::Stage> stages_over_keys(const std::string& function, const spec::Dims& dims,
                                          const spec::Setting& knobs);

// Of each row of each part: the largest score and the sum of weights; `width` floats of its result.
std::vector<int64_t> scratch_of_parts(const spec::Dims& dims, const spec::Setting& knobs,
                                      int64_t width);

// ROWS, TILE, PREFETCH, KEYS, DOT and what all kernels have: of keys and values of type T, as
// tiles.cpu.h takes them.
spec::Space block_space(spec::Dtype dtype, const spec::DeviceTraits& traits,
                        std::vector<int64_t> rows, std::vector<int64_t> keys);
// scratch_of_parts; steps of Dv are whole vectors of elements, and a step holds as many floats.
std::vector<int64_t> scratch_of_blocks(spec::Dtype dtype, const spec::Dims& dims,
                                       const spec::Setting& knobs);

// In Metal, a threadgroup for each query row: THREADS, and BLOCK keys at a time.
spec::Space row_space(spec::Dtype dtype, const spec::DeviceTraits& traits);
spec::Launch launch_rows(const spec::Dims& dims, const spec::Setting& knobs);

}  // namespace mlx_kd::kernels::attention
