// slogdet: sign and logarithm of the determinant of each matrix of a batch, by P A = L U with partial
// pivoting.
//
// A threadgroup of THREADS threads factors one matrix: in threadgroup memory if it fits into HELD
// floats, else in scratch memory (eliminate.metal.h). One thread multiplies the mantissas of the pivots and
// adds their exponents.
//
// Grid: batch * THREADS threads in x, threadgroup: THREADS. scratch0: batch * n * width floats.
#include <metal_stdlib>
using namespace metal;

#ifndef THREADS
#define THREADS 128  // of a matrix
#endif
#ifndef HELD
#define HELD 4096  // floats of a matrix in threadgroup memory at most
#endif

#include "../eliminate.metal.h"

#define NOTE(COLUMN, ROW) is_negative = is_negative != (COLUMN != ROW);
#define DETERMINE(W, W_FLAG)                                                                      \
    for (int e = index; e < n * n; e += THREADS) W[e] = from[e];                                  \
    threadgroup_barrier(W_FLAG);                                                                  \
    ELIMINATE(W, W_FLAG)                                                                          \
    if (index == 0) {                                                                             \
      bool is_finite = true;                                                                      \
      for (int e = 0; e < n * n && failed != 0; ++e) {                                            \
        is_finite = is_finite && (as_type<uint>(from[e]) & 0x7f800000u) != 0x7f800000u;           \
        is_finite = is_finite && (as_type<uint>(W[e]) & 0x7f800000u) != 0x7f800000u;              \
      }                                                                                           \
      float product = 1.0f;                                                                       \
      int exponent = 0;                                                                           \
      for (int c = 0; c < n && failed == 0; ++c) {                                                \
        const float pivot = W[c * width + c];                                                     \
        is_negative = is_negative != (pivot < 0.0f);                                              \
        const uint bits = as_type<uint>(fabs(pivot));                                             \
        const int shift = bits < 0x800000u ? 24 : 0;                                              \
        const uint normal = shift != 0 ? as_type<uint>(fabs(pivot) * 0x1p24f) : bits;             \
        exponent += int(normal >> 23) - 127 - shift;                                              \
        product *= as_type<float>((normal & 0x7fffffu) | 0x3f800000u);                            \
        if (product >= 2.0f) {                                                                    \
          product *= 0.5f;                                                                        \
          exponent += 1;                                                                          \
        }                                                                                         \
      }                                                                                           \
      info[which] = failed;                                                                       \
      sign[which] = failed == 0 ? (is_negative ? -1.0f : 1.0f) : is_finite ? 0.0f : NAN;       \
      const float sum = float(exponent) * 0x1.62e43p-1f - float(exponent) * 0x1.05c61p-29f;       \
      logabsdet[which] = failed == 0 ? sum + precise::log(product) : is_finite ? -INFINITY : NAN; \
    }

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_slogdet(
    const device float* a [[buffer(0)]],
    device float* sign [[buffer(1)]],
    device float* logabsdet [[buffer(2)]],
    device int* info [[buffer(3)]],
    device float* scratch0 [[buffer(4)]],
    constant int& n [[buffer(5)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint3 thread_position_in_threadgroup [[thread_position_in_threadgroup]]) {
  threadgroup float held[HELD];
  threadgroup float sizes[THREADS];
  threadgroup int rows[THREADS];
  const int index = int(thread_position_in_threadgroup.x);
  const ulong which = ulong(threadgroup_position_in_grid.x);
  const int m = n;
  const int steps = n;
  const int width = n;
  const device float* from = a + which * ulong(n) * ulong(n);
  device float* w = scratch0 + which * ulong(n) * ulong(width);
  int failed = 0;
  bool is_negative = false;
  if (n * width <= HELD) {
    DETERMINE(held, mem_flags::mem_threadgroup)
  } else {
    DETERMINE(w, mem_flags::mem_device | mem_flags::mem_threadgroup)
  }
}
