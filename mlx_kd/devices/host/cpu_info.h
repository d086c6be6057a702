// What this CPU is and what a process may use of it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mlx_kd/spec/device_id.h"

namespace mlx_kd::devices::cpu {

// Processors that this process may run on at once: its affinity mask, cut by the CPU quota of its
// control group (rounded up). At least 1. Read once per process.
int usable_cores();

// Instruction sets that the processor has and the system has switched on, sorted, by the names of
// /proc/cpuinfo without underscores: "avx2", "avx512f", "f16c", "fma"; "asimd", "sve" on ARM. The
// first call asks Linux for AMX's tile registers; where it refuses, no "amx..." is in the list.
const std::vector<std::string>& instruction_sets();

// Widest vector register in bytes: 16, 32 or 64.
int vector_bytes();

struct CacheSizes {
  int64_t l1 = 0, l2 = 0, l3 = 0;  // data or unified, bytes, as one core sees them; 0: not known
};
CacheSizes cache_sizes();

// Arch and name exactly as MLX says them; target {"isa": [...], "cores": n}. The instruction sets
// are without "amx..." where MLX_KD_MARCH names an architecture.
spec::DeviceId make_cpu_id();

}  // namespace mlx_kd::devices::cpu
