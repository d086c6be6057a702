// clang-format off
// The element type T of a Metal kernel, and PACK_BYTES, the alignment of a pack of VEC elements. Macros:
// KD_DTYPE (0 float, 1 half, 2 bfloat), KD_ALIGNED (0: arrays start anywhere, 1: at a multiple of 16
// bytes), VEC. The text below the pragma is in the hash of every Metal kernel.
#pragma once
#if KD_DTYPE == 0
typedef float T;
#define T_BYTES 4
#elif KD_DTYPE == 1
typedef half T;
#define T_BYTES 2
#else
typedef bfloat T;
#define T_BYTES 2
#endif
#if KD_ALIGNED == 0
#define PACK_BYTES T_BYTES
#elif VEC * T_BYTES < 16
#define PACK_BYTES VEC * T_BYTES
#else
#define PACK_BYTES 16
#endif
