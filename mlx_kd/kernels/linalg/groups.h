// Launches of kernels that take several matrices of a batch together.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/spec/op/op.h"

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

// What the kernels of an op in CUDA C++ turn: `count` vectors of `length`, in so many floats.
struct Turned {
  int64_t count, length, floats;
};

// The kernels of an op's folder: on a CPU lanes take matrices, or rows of one; in Metal a
// threadgroup takes a matrix, with the knobs THREADS, and PARTS of a pair of its columns; in CUDA
// C++ a group does, with THREADS at most, and QUADS times four floats of a column in a thread.
std::vector<spec::Variant> variants(const std::string& op, decltype(spec::Variant::space) cpu_space,
                                    decltype(spec::Variant::scratch) cpu_scratch,
                                    decltype(spec::Variant::scratch) metal_scratch,
                                    Turned (*turned)(const spec::Dims&));

}  // namespace mlx_kd::kernels::groups
