// Times: for people (ISO 8601) and for measuring.
#pragma once

#include <cstdint>
#include <string>

namespace mlx_kd::base {

// Local time with offset, seconds: "2026-11-22T10:04:05+01:00".
std::string iso_time_now();

// "60.0 s": of a limit, in messages.
std::string seconds_text(double seconds);

// Steady time in ns; only differences mean something.
int64_t steady_ns();

// The same by a system call of our own where that is possible (Linux on x86-64 and ARM), which code
// that changes the C library's clock does not change.
int64_t system_call_ns();

inline double seconds_since(int64_t start_ns) {
  return 1e-9 * static_cast<double>(steady_ns() - start_ns);
}

}  // namespace mlx_kd::base
