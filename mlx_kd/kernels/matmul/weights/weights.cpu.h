// Weights of a product as MLX stores them, on a CPU. Macros: those of steps.cpu.h, and
//
//   DOT       1: AVX512_BF16's dot product where the compiler has it; 0: float32
//   PREFETCH  bytes ahead, where x does not stay in the first cache; 0: none
//   UNROLL    steps a turn of the innermost loop
//
// A row of W holds K codes of `bits` bits as one stream of bits, lowest first, of which each group
// of `group` has a scale, and an affine one a bias: w = scale code + bias. Formats: 0 affine (codes
// are integers of 2, 3, 4, 5, 6 or 8 bits, scale and bias of type T), 1 mxfp4, 2 mxfp8, 3 nvfp4
// (codes are floats of 4 or 8 bits; the scale is a byte: a power of two, or a float of 8 bits with
// nvfp4), 4 dense (codes are elements of T, no scales).
#ifndef DOT
#define DOT 1
#endif
#ifndef PREFETCH
#define PREFETCH 0
#endif
#ifndef UNROLL
#define UNROLL 1
#endif
#pragma once
#include "instructions.cpu.h"

enum Format { kAffine, kMxfp4, kMxfp8, kNvfp4, kDense };

struct Matrix {
  const unsigned char* codes;   // rows of Shape::row_bytes
  const unsigned char* end;     // of the codes: vectors may reach into the next row
  const unsigned char* scales;  // rows of Shape::scale_bytes
  const unsigned char* biases;  // likewise, of an affine format
};

// What all matrices of a call have in common.
struct Shape {
  long m, k;  // rows of x, its columns
  long bits, group, groups;
  long row_bytes, scale_bytes;
  Format format;
};

static Shape shape_of(long m, long k, long bits, long group, long format) {
  Shape shape = {m, k, bits, group, group > 0 ? k / group : 0, k * bits / 8, 0, Format(format)};
  shape.scale_bytes = shape.groups * long(format == kAffine ? sizeof(T) : 1);
  return shape;
}

#include "lanes.cpu.h"

constexpr float kFloat4[16] = {0,     0.5f,  1,  1.5f,  2,  3,  4,  6,
                               -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};

// Floats of 8 bits: sign, 4 of exponent, 3 of mantissa; no infinities, 0x7f is NaN.
KD_INLINE Floats float8_lanes(Uints code) {
  const Uints magnitude = code & 0x7f;
  const Floats value = (Floats)(magnitude << 20) * 0x1p120f;
  const Floats all = choose((Uints)(magnitude == 0x7f), Floats{} + __builtin_nanf(""), value);
  return (Floats)((Uints)all | (code & 0x80) << 24);
}

// Bytes as powers of two: 0 is 2^-127, 255 NaN.
KD_INLINE Floats power_lanes(Uints code) {
  const Floats value = choose((Uints)(code == 0), Floats{} + 0x1p-127f, (Floats)(code << 23));
  return choose((Uints)(code == 255), Floats{} + __builtin_nanf(""), value);
}

[[maybe_unused]] static void put_nan(T* to, long count) {
#if KD_DTYPE == 0
  for (long i = 0; i < count; ++i) to[i] = __builtin_nanf("");
#else
  for (long i = 0; i < count; ++i) to[i] = KD_DTYPE == 1 ? 0x7e00 : 0x7fc0;
#endif
}

// kLanes values of type T from one on, of `left`, as floats; zeros behind the last.
KD_INLINE Floats values_at(const unsigned char* from, long left) {
  return float_lanes(left >= kLanes ? take<Elements>((const T*)from)
                                    : take_some<Elements>((const T*)from, left));
}

// kLanes scales of a row from group g on, as floats; zeros behind the last.
KD_INLINE Floats scales_at(const Shape& shape, const unsigned char* scales, long g) {
  const long left = shape.groups - g;
  if (shape.format == kAffine) return values_at(scales + g * long(sizeof(T)), left);
  const Bytes bytes = left >= kLanes ? take<Bytes>(scales + g) : take_some<Bytes>(scales + g, left);
  const Uints code = __builtin_convertvector(bytes, Uints);
  return shape.format == kNvfp4 ? float8_lanes(code) : power_lanes(code);
}
