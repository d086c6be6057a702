// clang-format off
// Rows that are made in threadgroup memory, rotated or as they are, and quantised from there by one
// simdgroup. It is included below packs.metal.h.
#pragma once
#include "../common/quantize.metal.h"
#include "rotate.metal.h"

// A row in threadgroup memory to codes, a scale and a bias for each group.
static void quantize_row(threadgroup float* x, int width, int bits, int group, device uint* codes,
                         device T* scales, device T* biases, uint lane) {
  for (int at = 4 * int(lane); at < (width + 127) / 128 * 128; at += 128) {
    const bool has = at < width;
    const float4 four = has ? float4(x[at], x[at + 1], x[at + 2], x[at + 3]) : float4(0.0f);
    quantize_four(four, has, at, bits, group, codes, scales, biases);
  }
}

// A row, normed if it has a weight and rotated, as T rounds it, to threadgroup memory.
static void turn_to(Rotation how, const device T* from, const device T* weight, const device float* freqs,
                    bool has_freqs, threadgroup float* x, uint lane) {
  float by = 1.0f;
  if (how.normed) {
    float sum = 0.0f;
    for (int i = int(lane); i < how.width; i += 32) sum += float(from[i]) * float(from[i]);
    by = precise::rsqrt(simd_sum(sum) / float(how.width) + how.eps);
  }
  const int half_dims = how.dims / 2;
  for (int i = int(lane); i < half_dims; i += 32) {
    const float rate = has_freqs ? 1.0f / freqs[i]
                                 : precise::exp2(-(float(i) / float(half_dims)) * how.log2_base);
    const float angle = how.position * rate;
    const float c = precise::cos(angle);
    const float s = precise::sin(angle);
    const int first = how.interleaved ? 2 * i : i;
    const int second = how.interleaved ? 2 * i + 1 : i + half_dims;
    const float a = normed_element(from, weight, how.normed, by, first);
    const float b = normed_element(from, weight, how.normed, by, second);
    x[first] = float(T(a * c - b * s));
    x[second] = float(T(a * s + b * c));
  }
  for (int i = how.dims + int(lane); i < how.width; i += 32)
    x[i] = float(T(normed_element(from, weight, how.normed, by, i)));
}
