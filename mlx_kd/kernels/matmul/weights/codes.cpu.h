// Codes of a row of W as floats, on any processor.
#pragma once
#include "weights.cpu.h"

constexpr long kMostGroup = 128;

// `count` codes of a row from column `from` on, a multiple of 8, as floats.
KD_INLINE void floats_of(const Shape& shape, const unsigned char* codes, long from, long count,
                         float* to) {
  typedef unsigned long Eight __attribute__((vector_size(64)));
  typedef float EightFloats __attribute__((vector_size(32)));
  const unsigned long bits = (unsigned long)shape.bits;
  const Eight shifts = Eight{0, 1, 2, 3, 4, 5, 6, 7} * bits;
  for (long i = 0; i < count; i += 8) {
    // Eight bytes that lie in the row, for the row may end where the memory does.
    const long at = (from + i) / 8 * shape.bits, last = shape.row_bytes - 8;
    const long begin = at < last ? at : last;
    const unsigned long word = take<unsigned long>(codes + begin) >> 8 * (at - begin);
    const Eight code = (Eight{} + word) >> shifts & ((1ul << bits) - 1);
    if (shape.format == kAffine) {
      const EightFloats value = __builtin_convertvector(
          __builtin_convertvector(code, int __attribute__((vector_size(32)))), EightFloats);
      __builtin_memcpy(to + i, &value, sizeof value);
    } else if (shape.format == kMxfp8) {
      for (int j = 0; j < 8; ++j) to[i + j] = float8_lanes(Uints{} + unsigned(code[j]))[0];
    } else {
      for (int j = 0; j < 8; ++j) to[i + j] = kFloat4[code[j]];
    }
  }
}
