// What `kd doctor` and `kd devices` say about the CPU.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/devices/doctor.h"

namespace mlx_kd::devices::cpu {

// Processor, caches, cache flushes, clock, compiler (one small kernel is compiled and run), the
// cache of objects.
std::vector<Finding> examine();

// "AMD EPYC (x86_64), 2 cores, 64-byte vectors"
std::string describe();

}  // namespace mlx_kd::devices::cpu
