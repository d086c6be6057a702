// A transpose of as many vectors of floats as one has floats, in registers.
#pragma once
#include "steps.cpu.h"

// Row i of the result holds lane i of each.
KD_INLINE void transpose(Floats* rows) {
#if VEC == 64
  Floats a[16];
  KD_UNROLL
  for (int i = 0; i < 8; ++i) {
    const Floats x = rows[2 * i], y = rows[2 * i + 1];
    a[2 * i] =
        __builtin_shufflevector(x, y, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30);
    a[2 * i + 1] =
        __builtin_shufflevector(x, y, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
  }
  KD_UNROLL
  for (int i = 0; i < 16; ++i) {
    if (i & 2) continue;
    const Floats x = a[i], y = a[i + 2];
    rows[i] =
        __builtin_shufflevector(x, y, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
    rows[i + 2] =
        __builtin_shufflevector(x, y, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
  }
  KD_UNROLL
  for (int i = 0; i < 16; ++i) {
    if (i & 4) continue;
    const Floats x = rows[i], y = rows[i + 4];
    a[i] = __builtin_shufflevector(x, y, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
    a[i + 4] =
        __builtin_shufflevector(x, y, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
  }
  KD_UNROLL
  for (int i = 0; i < 8; ++i) {
    const Floats x = a[i], y = a[i + 8];
    rows[i] = __builtin_shufflevector(x, y, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
    rows[i + 8] =
        __builtin_shufflevector(x, y, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  }
#else
  constexpr long count = VEC / 4;
  Floats a[count];
  for (long i = 0; i < count; ++i)
    for (long j = 0; j < count; ++j) a[i][j] = rows[j][i];
  for (long i = 0; i < count; ++i) rows[i] = a[i];
#endif
}
