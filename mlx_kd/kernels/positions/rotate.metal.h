// clang-format off
// Rotary position embedding of a row by one simdgroup, after an rmsnorm where there is a weight. It
// is included below packs.metal.h.
#pragma once
struct Rotation {
  int dims;  // the elements that are rotated
  int width;
  bool interleaved;  // pairs are (2i, 2i + 1), else (i, i + dims / 2)
  bool normed;
  float log2_base;
  float position;  // times the scale
  float eps;
};

// Element i of the row, normed.
static float normed_element(const device T* x, const device T* weight, bool normed, float by, int i) {
  return normed ? float(x[i]) * by * float(weight[i]) : float(x[i]);
}

static void turn_row(Rotation how, const device T* x, const device T* weight,
                     const device float* freqs, bool has_freqs, device T* y, uint lane) {
  float by = 1.0f;
  if (how.normed) {
    float sum = 0.0f;
    for (int i = int(lane); i < how.width; i += 32) sum += float(x[i]) * float(x[i]);
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
    const float a = normed_element(x, weight, how.normed, by, first);
    const float b = normed_element(x, weight, how.normed, by, second);
    y[first] = T(a * c - b * s);
    y[second] = T(a * s + b * c);
  }
  for (int i = how.dims + int(lane); i < how.width; i += 32)
    y[i] = T(normed_element(x, weight, how.normed, by, i));
}
