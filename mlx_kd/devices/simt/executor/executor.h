// Runs compiled kernels: threadgroups in parallel over the cores, the threads of a threadgroup as
// fibers of one core, or as loops if they never meet or meet only where loops can be cut. Loops run
// in the forward order: another one takes fibers.
//
// Barriers and simd functions are meeting points. A simd function is complete when every living
// lane of its simdgroup waits: if all wait at one site, they exchange; if they wait at several, the
// first site in the source goes first, with the lanes that are there.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mlx_kd/devices/metal_text/launch_options.h"
#include "mlx_kd/msl/prelude/abi.h"

namespace mlx_kd::devices::simt {

class Monitor;

// The entries of one kernel in a loaded object.
struct Entry {
  void (*thread)(void* const* buffers, void* const* groups, const kd_thread* place) = nullptr;
  // Null if the threads need fibers.
  void (*group)(void* const* buffers, void* const* groups, const kd_group* place) = nullptr;
};

struct LaunchOptions : RunOptions {
  double budget_s = 0;         // no group starts later than this, but the first; 0: none
  Monitor* monitor = nullptr;  // sees every access; needs a kernel built for it, and one core
};

inline constexpr uint32_t kMaxThreads = 1024;               // of a threadgroup
inline constexpr size_t kMaxGroupBytes = size_t{32} << 10;  // threadgroup memory

// grid counts threads; the last groups are smaller where it is not a multiple of `group`.
// buffers: by buffer index; group_bytes: of each [[threadgroup(n)]] argument.
// Misuse for a size of 0, more than 1,024 threads per group and more than 32 KiB of threadgroup
// memory. Thread-safe; several launches may run at once.
LaunchReport launch(const Entry& entry, const std::vector<void*>& buffers,
                    const std::vector<size_t>& group_bytes, Size3 grid, Size3 group,
                    const LaunchOptions& options);

// What a loaded object's kd_bound has to point to.
const kd_runtime* runtime();

}  // namespace mlx_kd::devices::simt
