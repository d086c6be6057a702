// The floating-point mode of a thread: how it rounds, and whether it flushes subnormal numbers.
#pragma once

#include <atomic>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace mlx_kd::devices::cpu {

inline uint64_t float_mode() {
#if defined(__x86_64__)
  return _mm_getcsr() & ~0x3fu;  // without the flags of past exceptions
#elif defined(__aarch64__)
  uint64_t mode;
  __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
  return mode;
#else
  return 0;
#endif
}

inline void set_float_mode([[maybe_unused]] uint64_t mode) {
#if defined(__x86_64__)
  _mm_setcsr(static_cast<unsigned>(mode));
#elif defined(__aarch64__)
  __asm__ volatile("msr fpcr, %0" : : "r"(mode));
#endif
}

inline std::atomic<uint64_t>& float_mode_change_counter() {
  static std::atomic<uint64_t> count{0};
  return count;
}

// How often a kernel has left the mode of its thread changed, in this process.
inline uint64_t float_mode_changes() {
  return float_mode_change_counter().load(std::memory_order_relaxed);
}

// Puts the mode back and counts, if a kernel has changed it.
class FloatModeGuard {
 public:
  FloatModeGuard() = default;
  ~FloatModeGuard() {
    if (float_mode() == before_) return;
    set_float_mode(before_);
    float_mode_change_counter().fetch_add(1, std::memory_order_relaxed);
  }
  FloatModeGuard(const FloatModeGuard&) = delete;
  FloatModeGuard& operator=(const FloatModeGuard&) = delete;

 private:
  uint64_t before_ = float_mode();
};

}  // namespace mlx_kd::devices::cpu
