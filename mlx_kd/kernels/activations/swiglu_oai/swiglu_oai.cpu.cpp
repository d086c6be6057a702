// swiglu_oai: y = (clip(up, -limit, limit) + 1) g sigmoid(alpha g), g = min(gate, limit), element
// by element.
//
// inputs gate, up (rows, D); output y (rows, D); dims rows, D, N = rows * D; params alpha, limit; a
// unit is a block of 1024 elements. Includes no header, so that it compiles in a tenth of a second.
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
#ifndef DEGREE
#define DEGREE 5  // of the polynomial for (2^f - 1) / f
#endif
#ifndef DIVIDE
#define DIVIDE 0  // division (0), or the processor's estimate of 1/x and a Newton step (1)
#endif
#ifndef STREAM
#define STREAM 0  // 1: the output bypasses the caches
#endif

#include "../gates.cpu.h"

extern "C" void mlx_kd_swiglu_oai(const void* const* inputs, void* const* outputs, const long* dims,
                                  const double* params, long begin, long end) {
  const Span at = span_of(begin, end, dims[2]);
  const float alpha = float(params[0]);
  const Floats limit = all(float(params[1])), least = -limit;
  map_two((const T*)inputs[0] + at.from, (const T*)inputs[1] + at.from, (T*)outputs[0] + at.from,
          at.count, [=](Floats g, Floats up) __attribute__((always_inline)) {
            g = g > limit ? limit : g;
            up = up > limit ? limit : up;
            up = up < least ? least : up;
            return gated(g, g * alpha) * (up + 1.0f);
          });
  finish_streams();
}
