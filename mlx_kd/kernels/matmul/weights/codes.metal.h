// clang-format off
// Products of x with rows of W that are quantised as MLX stores them: K codes of `bits` bits as one
// stream of bits, lowest first, of which each group has a scale, and an affine one a bias. Modes: 0
// affine (codes are integers, scale and bias elements of T), 1 mxfp4, 2 mxfp8, 3 nvfp4 (codes are floats
// of 4 or 8 bits, the scale is a byte: a power of two, or a float of 8 bits with nvfp4).
//
// Scales and biases are read as bytes, whatever type a call's arrays have. A lane takes a unit a turn:
// 32 columns, with nvfp4 16, which are whole words of codes and of one group.
#pragma once
#ifndef WORDS
#define WORDS 4  // uints of a load at most: 1, 2, 4
#endif
#define VEC 8
#include "products.metal.h"
#define AFFINE 0
#define MXFP4 1
#define MXFP8 2
#define NVFP4 3

struct Matrix {
  const device uint* codes;
  const device uchar* scales;
  const device uchar* biases;
};

template <class Scales, class Biases>
static Matrix matrix_of(const device uint* codes, const device Scales* scales, const device Biases* biases) {
  Matrix matrix;
  matrix.codes = codes;
  matrix.scales = reinterpret_cast<const device uchar*>(scales);
  matrix.biases = reinterpret_cast<const device uchar*>(biases);
  return matrix;
}

struct Format {
  uint bits;
  uint group;
  uint mode;
};

static Format format_of(int bits, int group, int mode) {
  Format format;
  format.bits = uint(bits);
  format.group = uint(group);
  format.mode = uint(mode);
  return format;
}

// Sign, 2 bits of exponent, 1 of mantissa: a half but for a power of two.
static float float4_of(uint code) {
  return float(as_type<half>(ushort((code & 8) << 12 | (code & 7) << 9))) * 16384.0f;
}

// Sign, 4 bits of exponent, 3 of mantissa; no infinities, 0x7f is NaN.
static float float8_of(uint code) {
  const float value = float(as_type<half>(ushort((code & 0x80) << 8 | (code & 0x7f) << 7))) * 256.0f;
  return (code & 0x7f) == 0x7f ? NAN : value;
}

static float power_of(uint code) {
  const float value = code == 0 ? 5.8774717541e-39f : as_type<float>(code << 23);
  return code == 255 ? NAN : value;
}

static float element_of(const device uchar* bytes, ulong at) {
  return float(reinterpret_cast<const device T*>(bytes)[at]);
}

template <uint Mode>
static float scale_of(const device uchar* scales, ulong at) {
  if (Mode == AFFINE) return element_of(scales, at);
  return Mode == NVFP4 ? float8_of(scales[at]) : power_of(scales[at]);
}

template <uint Bits, uint Mode>
static float value_of(uint code) {
  if (Mode == MXFP8) return float8_of(code);
  if (Mode != AFFINE) return float4_of(code);
  return as_type<float>(0x4b000000u | code) - 8388608.0f;  // 2^23 + code
}

template <uint Count>
struct Words {
  uint at[Count];
};

template <uint Count>
static Words<Count> words_of(const device uint* from) {
  constexpr uint chunk = Count % 4 == 0 && WORDS == 4 ? 4 : Count % 2 == 0 && WORDS > 1 ? 2 : 1;
  struct alignas(KD_ALIGNED ? 4 * chunk : 4) Chunk {
    uint at[chunk];
  };
  Words<Count> result;
#pragma unroll
  for (uint c = 0; c < Count / chunk; ++c) {
    const Chunk some = reinterpret_cast<const device Chunk*>(from)[c];
#pragma unroll
    for (uint i = 0; i < chunk; ++i) result.at[c * chunk + i] = some.at[i];
  }
  return result;
}

template <uint Bits, uint Count>
static uint code_of(Words<Count> words, uint column) {
  const uint bit = column * Bits;
  uint code = words.at[bit / 32] >> bit % 32;
  if (bit % 32 + Bits > 32) code |= words.at[bit / 32 + 1] << (32 - bit % 32);
  return code & ((1u << Bits) - 1);
}

template <uint Bits, uint Mode>
static Sums sums_of(Matrix w, uint N, const device T* x, uint M, uint K, uint group, Place place) {
  struct alignas(PACK_BYTES) Pack {
    T at[VEC];
  };
  constexpr uint columns = Mode == NVFP4 ? 16 : 32;
  constexpr uint count = columns * Bits / 32;  // words of a unit
  Sums sums = no_sums();
  const ulong row_words = ulong(K) / columns * count;
  const ulong groups = K / group;
  for (uint unit = place.part * 32 + place.lane; unit < K / columns; unit += SPLIT * 32) {
    Words<count> words[ROWS];
#pragma unroll
    for (uint r = 0; r < ROWS; ++r)
      words[r] = words_of<count>(w.codes + min(place.row + r, N - 1) * row_words + unit * count);
    Sums dots = no_sums();
    float x_sums[XROWS];
#pragma unroll
    for (uint m = 0; m < XROWS; ++m) x_sums[m] = 0.0f;
#pragma unroll
    for (uint p = 0; p < columns / VEC; ++p) {
      float values[ROWS][VEC];
#pragma unroll
      for (uint r = 0; r < ROWS; ++r)
#pragma unroll
        for (uint v = 0; v < VEC; ++v)
          values[r][v] = value_of<Bits, Mode>(code_of<Bits>(words[r], p * VEC + v));
#pragma unroll
      for (uint m = 0; m < XROWS; ++m)
        if (place.x_row + m < M) {
          const device T* from = x + ulong(place.x_row + m) * K + unit * columns + p * VEC;
          const Pack pack = *reinterpret_cast<const device Pack*>(from);
          float x_sum = 0.0f;
#pragma unroll
          for (uint v = 0; v < VEC; ++v) x_sum += float(pack.at[v]);
          x_sums[m] += x_sum;
#pragma unroll
          for (uint r = 0; r < ROWS; ++r) {
            float dot = 0.0f;
#pragma unroll
            for (uint v = 0; v < VEC; ++v) dot += values[r][v] * float(pack.at[v]);
            dots.at[r][m] += dot;
          }
        }
    }
#pragma unroll
    for (uint r = 0; r < ROWS; ++r) {
      const ulong at = min(place.row + r, N - 1) * groups + unit * columns / group;
      const float scale = scale_of<Mode>(w.scales, at);
      const float bias = Mode == AFFINE ? element_of(w.biases, at) : 0.0f;
#pragma unroll
      for (uint m = 0; m < XROWS; ++m) {
        sums.at[r][m] += scale * dots.at[r][m];
        if (Mode == AFFINE) sums.at[r][m] += bias * x_sums[m];
      }
    }
  }
  return sums;
}

static Sums products_of(Matrix w, uint N, const device T* x, uint M, uint K, Format format, Place place) {
  if (format.mode == MXFP4) return sums_of<4, MXFP4>(w, N, x, M, K, format.group, place);
  if (format.mode == MXFP8) return sums_of<8, MXFP8>(w, N, x, M, K, format.group, place);
  if (format.mode == NVFP4) return sums_of<4, NVFP4>(w, N, x, M, K, format.group, place);
  if (format.bits == 2) return sums_of<2, AFFINE>(w, N, x, M, K, format.group, place);
  if (format.bits == 3) return sums_of<3, AFFINE>(w, N, x, M, K, format.group, place);
  if (format.bits == 4) return sums_of<4, AFFINE>(w, N, x, M, K, format.group, place);
  if (format.bits == 5) return sums_of<5, AFFINE>(w, N, x, M, K, format.group, place);
  if (format.bits == 6) return sums_of<6, AFFINE>(w, N, x, M, K, format.group, place);
  return sums_of<8, AFFINE>(w, N, x, M, K, format.group, place);
}
