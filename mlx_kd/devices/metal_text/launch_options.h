// How one kernel of a Metal source is run, and what came of it.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace mlx_kd::devices {

using Size3 = std::array<uint32_t, 3>;  // threads in x, y, z

enum class ThreadOrder : uint8_t { forward, reverse, random };

// All but the time limit are for the executor.
struct RunOptions {
  ThreadOrder order = ThreadOrder::forward;  // of the threads of a group, and of the groups
  uint64_t seed = 0;                         // of the random order
  bool fibers = false;                       // fibers even where a loop would do
  int cores = 0;                             // 0: all
  double timeout_s = 0;                      // 0: none
};

struct LaunchReport {
  bool timed_out = false;
  std::string fault;                // what ended the kernel early: a stack that is too small, ...
  int divergent_barrier_site = -1;  // a barrier that not all threads of the group reached
  int divergent_simd_site = -1;     // a simd function that not all lanes reached
  double seconds = 0;
  uint64_t groups = 0;  // threadgroups that ran, where a budget stopped the rest
};

}  // namespace mlx_kd::devices
