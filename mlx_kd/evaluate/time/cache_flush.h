// Empties the caches of given memory.
#pragma once

#include <cstddef>

namespace mlx_kd::evaluate {

// Writes back and drops every cache line of [data, data + bytes), on all levels and cores, and
// waits for it.
void flush_from_caches(const void* data, size_t bytes);

}  // namespace mlx_kd::evaluate
