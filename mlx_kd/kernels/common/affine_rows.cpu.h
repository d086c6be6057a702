// Rows as codes, scales and biases, by MLX's affine rule, for CPU kernels: included below the knobs
// of steps.cpu.h. UNROLL: vectors of a group that are read in one turn.
//
// Of each group: scale = max((most - least) / n, 1e-7) with n = 2^bits - 1, negative where the end
// of larger magnitude is the most; q0 = that end / scale, rounded; where q0 is not 0 scale becomes
// end / q0 and the bias the end, else the bias is 0. Codes are (x - bias) / scale, rounded to
// nearest even, from 0 to n, with scale and bias as they are before they are rounded.
#ifndef UNROLL
#define UNROLL 1
#endif
#pragma once
#include "steps.cpu.h"

#define KD_TEXT(text) #text
#define KD_PRAGMA(text) _Pragma(KD_TEXT(text))
#ifdef __clang__
#define KD_TURNS KD_PRAGMA(clang loop unroll_count(UNROLL))
#else
#define KD_TURNS KD_PRAGMA(GCC unroll UNROLL)
#endif

constexpr int kFloats = VEC / 4, kMostGroup = 128;

// An element as float, and a float as an element.
KD_INLINE float widened(T element) {
#if KD_DTYPE == 0
  return element;
#elif KD_DTYPE == 2
  const unsigned bits = unsigned(element) << 16;
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
#else
  T row[kStep] = {element};
  return load(row).part[0][0];
#endif
}

KD_INLINE T narrowed(float value) {
#if KD_DTYPE == 0
  return value;
#else
  Step step = {};
  step.part[0][0] = value;
  T row[kStep];
  store(row, step);
  return row[0];
#endif
}

KD_INLINE float nearest(float value) {  // to an integer, ties to even
  const float size = value < 0 ? -value : value;
  if (!(size < 0x1p23f)) return value;
  const float whole = (size + 0x1p23f) - 0x1p23f;
  return value < 0 ? -whole : whole;
}

KD_INLINE float magnitude(float value) {
  return value < 0 ? -value : value;
}

struct Code {
  float scale, bias;
};

KD_INLINE Code code_of(const float* x, long group, float most_code) {
  Floats least, most;
  __builtin_memcpy(&least, x, sizeof least);
  most = least;
  KD_TURNS
  for (long i = kFloats; i < group; i += kFloats) {
    Floats part;
    __builtin_memcpy(&part, x + i, sizeof part);
    least = part < least ? part : least;
    most = part > most ? part : most;
  }
  float low = least[0], high = most[0];
  for (int i = 1; i < kFloats; ++i) {
    low = least[i] < low ? least[i] : low;
    high = most[i] > high ? most[i] : high;
  }
  const bool by_low = magnitude(low) > magnitude(high);
  float scale = (high - low) / most_code;
  scale = scale > 1e-7f ? scale : 1e-7f;
  if (!by_low) scale = -scale;
  const float end = by_low ? low : high, q0 = nearest(end / scale);
  if (q0 == 0) return {scale, 0};
  return {end / q0, end};
}

// Codes of `group` elements, one a byte.
KD_INLINE void codes_of(const float* x, long group, Code code, float most_code,
                        unsigned char* codes) {
  typedef unsigned char Bytes __attribute__((vector_size(kFloats)));
  KD_TURNS
  for (long i = 0; i < group; i += kFloats) {
    Floats part;
    __builtin_memcpy(&part, x + i, sizeof part);
    Floats q = (part - code.bias) / code.scale;
    const Floats none = {}, all = none + most_code;
    q = q > none ? q : none;
    q = q < all ? q : all;
    const Bytes bytes = __builtin_convertvector((Uints)(q + 0x1p23f) & 0xff, Bytes);
    __builtin_memcpy(codes + i, &bytes, sizeof bytes);
  }
}

struct CodedRow {
  unsigned char* codes;
  T *scales, *biases;
};

static void quantize(const T* from, long width, long group, long bits, CodedRow to) {
  const float most_code = float((1 << bits) - 1);
  alignas(64) float x[kMostGroup];
  unsigned char codes[kMostGroup];
  for (long g = 0; g * group < width; ++g) {
    for (long i = 0; i < group; ++i) x[i] = widened(from[g * group + i]);
    const Code code = code_of(x, group, most_code);
    to.scales[g] = narrowed(code.scale);
    to.biases[g] = narrowed(code.bias);
    codes_of(x, group, code, most_code, codes);
    if (bits == 8) {
      __builtin_memcpy(to.codes + g * group, codes, (unsigned long)group);
    } else {
      unsigned char* pairs = to.codes + g * group / 2;
      for (long i = 0; i < group / 2; ++i)
        pairs[i] = (unsigned char)(codes[2 * i] | codes[2 * i + 1] << 4);
    }
  }
}
