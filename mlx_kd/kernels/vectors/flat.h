// What l2_topk and ip_topk have in common: everything but their words and their metric.
#pragma once

#include <string>

#include "mlx_kd/kernels/vectors/judge.h"
#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::vectors {

inline constexpr int64_t kMostNeighbours = 1024;
inline constexpr int64_t kMostRows = int64_t(1) << 31;

// Dims M queries, N rows of base, D columns; the attribute k, 1 to 1,024. float32 in and out.
spec::Op flat_op(const std::string& name, Metric metric);

// Knobs of the CPU kernels: VEC, FEW, PREFETCH, BLOCK, PARTS and threads.
spec::Space cpu_space(spec::Dtype, const spec::DeviceTraits& traits);

// Queries of a block at most: whole tiles whose packed floats have room, or four that take rows as
// they are.
int64_t block_queries(int64_t width, int64_t most);

// Misuse where it is not 1 to kMostNeighbours.
void check_neighbours(const std::string& op, const spec::Dims& dims);

}  // namespace mlx_kd::kernels::vectors
