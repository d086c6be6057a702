// Fibers: stacks that one system thread switches between, by hand on x86-64 and AArch64, by
// ucontext elsewhere.
#pragma once

#include <cstddef>
#include <vector>

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#endif

namespace mlx_kd::devices::simt {

#if defined(__x86_64__) || defined(__aarch64__)
using Context = void*;  // the stack pointer; the registers lie on the stack
#else
using Context = ucontext_t;
#endif

// For functions that a thread leaves by a switch and may never come back to: the thread sanitizer
// would count them as entered forever, and its stack of 64 Ki functions ends.
#define MLX_KD_LEFT_BY_SWITCH __attribute__((no_sanitize("thread")))

// Saves where it is into `from` and continues at `to`.
MLX_KD_LEFT_BY_SWITCH void switch_to(Context& from, Context& to);

// Makes `context` start `entry` on the given stack. `entry` never returns.
void prepare(Context& context, char* stack, size_t bytes, void (*entry)());

// Equal stacks in one mapping, a page without access below each: an overflow is a fault, not a
// silent change of the next stack. Memory is taken as it is touched.
class Stacks {
 public:
  static constexpr size_t kBytes = size_t{256} << 10;

  Stacks() = default;
  ~Stacks();
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;

  // At least `count` of them from now on. Fails (exit 1) if the system has no memory.
  void reserve(size_t count);
  char* at(size_t i) const { return base_ + i * (kBytes + guard_) + guard_; }
  // Whether an address that faulted lies in a guard page.
  bool in_guard(const void* address) const;

 private:
  char* base_ = nullptr;
  size_t count_ = 0;
  size_t guard_ = 0;
};

}  // namespace mlx_kd::devices::simt
