// Launches of kernels that take several matrices of a batch together.
#pragma once

#include <vector>

#include "mlx_kd/spec/op.h"

namespace mlx_kd::kernels::groups {

constexpr int64_t kMostColumns = 512;

// As in rows.cpu.h and tridiagonal.cpu.h.
int64_t padded(int64_t n);
int64_t stride_of(int64_t n);
int64_t eigen_floats(int64_t n, const spec::Setting& knobs);

// VEC, SWEEPS, WIDE, THREADS, GRAIN (groups of a task at least).
spec::Space cpu_space(spec::Dtype dtype, const spec::DeviceTraits& traits);

// Tasks of a call, each with a scratch of its own: at most four a thread.
int64_t tasks(const spec::Dims& dims, const spec::Setting& knobs);

// One stage, whose index is the number of matrices of a task.
std::vector<spec::Stage> cpu_stages(const char* function, const spec::Dims& dims,
                                    const spec::Setting& knobs);

// THREADS of a matrix and PARTS of a pair of its columns; a threadgroup for each matrix.
spec::Space metal_space(spec::Dtype dtype, const spec::DeviceTraits& traits);
spec::Launch launch_metal(const spec::Dims& dims, const spec::Setting& knobs);

}  // namespace mlx_kd::kernels::groups
