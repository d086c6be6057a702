// relu2: y = max(x, 0)^2, element by element.
//
// input x (rows, D); output y (rows, D); dims rows, D, N = rows * D; a unit is a block of 1024
// elements. Includes no header, so that it compiles in a tenth of a second.
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef VEC
#define VEC 16  // bytes of a vector of floats
#endif
#ifndef BF16
#define BF16 0  // bfloat16 is rounded by integer arithmetic (0) or by AVX512_BF16 (1)
#endif
#ifndef UNROLL
#define UNROLL 4  // steps a turn of the loop
#endif
#ifndef PREFETCH
#define PREFETCH 0  // bytes ahead of the loop
#endif
#ifndef STREAM
#define STREAM 0  // 1: the output bypasses the caches
#endif

#include "../gates.cpu.h"

// NaN stays NaN.
extern "C" void mlx_kd_relu2(const void* const* inputs, void* const* outputs, const long* dims,
                             const double*, long begin, long end) {
  const Span at = span_of(begin, end, dims[2]);
  map_one((const T*)inputs[0] + at.from, (T*)outputs[0] + at.from, at.count,
          [](Floats x) __attribute__((always_inline)) {
            x = x < all(0.0f) ? all(0.0f) : x;
            return x * x;
          });
  finish_streams();
}
