// clang-format off
// Rows to codes of 8 or 4 bits, with a scale and a bias for each group of 32, 64 or 128, by the rule of the CPU
// kernels, affine_rows.cpu.h. It is included below packs.metal.h.
#pragma once

// Of rows [batch, head, row].
struct RowStrides {
  long batch, head, row;
};

static RowStrides row_strides(const constant long* strides) {
  return {strides[0], strides[1], strides[2]};
}

// Four elements of a row, from the `at`-th on; lanes next to one another have consecutive fours, and the lanes of a
// group start at a multiple of their number. All lanes of a simdgroup call it; one that has none writes nothing.
static void quantize_four(float4 x, bool has, int at, int bits, int group, device uint* codes, device T* scales,
                          device T* biases) {
  float low = min(min(x[0], x[1]), min(x[2], x[3]));
  float high = max(max(x[0], x[1]), max(x[2], x[3]));
  for (int other = group / 8; other > 0; other /= 2) {
    low = min(low, simd_shuffle_xor(low, ushort(other)));
    high = max(high, simd_shuffle_xor(high, ushort(other)));
  }
  const float most_code = float((1 << uint(bits)) - 1);
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
  uint packed = 0;
  for (int k = 0; k < 4; ++k)
    packed |= uint(clamp(rint((x[k] - bias) / scale), 0.0f, most_code)) << uint(k * bits);
  if (bits == 4) packed |= simd_shuffle_xor(packed, ushort(1)) << 16u;  // of use in the first of two lanes
  if (!has) return;
  if (bits == 8 || at % 8 == 0) codes[at * bits / 32] = packed;
  if (at % group != 0) return;
  scales[at / group] = T(scale);
  biases[at / group] = T(bias);
}
