// clang-format off
// Rows that are made in threadgroup memory, rotated or as they are, and quantised from there by one
// simdgroup: by the rule of the CPU kernels, common/affine_rows.cpu.h. It is included below
// packs.metal.h.
#pragma once
#include "rotate.metal.h"

// A row in threadgroup memory to codes, a scale and a bias for each group.
static void quantize_row(threadgroup float* x, int width, int bits, int group, device uint* codes,
                         device T* scales, device T* biases, uint lane) {
  const float most_code = float((1 << uint(bits)) - 1);
  const int each = 32 / bits;
  for (int g = 0; g < width / group; ++g) {
    float low = x[g * group];
    float high = low;
    for (int i = int(lane); i < group; i += 32) {
      low = min(low, x[g * group + i]);
      high = max(high, x[g * group + i]);
    }
    low = simd_min(low);
    high = simd_max(high);
    const bool by_low = abs(low) > abs(high);
    float scale = max((high - low) / most_code, 1e-7f);
    scale = by_low ? scale : -scale;
    const float end = by_low ? low : high;
    const float q0 = rint(end / scale);
    float bias = 0.0f;
    if (q0 != 0.0f) {
      scale = end / q0;
      bias = end;
    }
    if (lane == 0) {
      scales[g] = T(scale);
      biases[g] = T(bias);
    }
    for (int word = int(lane); word < group / each; word += 32) {
      uint packed = 0;
      for (int k = 0; k < each; ++k) {
        const float code = clamp(rint((x[g * group + word * each + k] - bias) / scale), 0.0f, most_code);
        packed |= uint(code) << uint(k * bits);
      }
      codes[g * group / each + word] = packed;
    }
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
