// Floats <-> small integers in one word: unorm is [0, 1], snorm is [-1, 1].
#pragma once

namespace metal {

KD_FN constexpr float kd_most(int bits) { return float((1u << bits) - 1u); }
KD_FN float kd_from_unorm(uint word, int at, int bits) {
  return float((word >> at) & ((1u << bits) - 1u)) / kd_most(bits);
}
KD_FN uint kd_to_unorm(float a, int bits) {
  return uint(KD_F(rintf)(kd_saturate(a) * kd_most(bits)));
}
KD_FN float kd_from_snorm(uint word, int at, int bits) {
  const float value = float(int(word << (32 - bits - at)) >> (32 - bits)) / kd_most(bits - 1);
  return KD_F(fmaxf)(value, -1.0f);
}
KD_FN uint kd_to_snorm(float a, int bits) {
  const float value = KD_F(fminf)(KD_F(fmaxf)(a, -1.0f), 1.0f);
  return uint(int(KD_F(rintf)(value * kd_most(bits - 1)))) & ((1u << bits) - 1u);
}
KD_FN float kd_from_srgb(float a) {
  return a <= 0.04045f ? a / 12.92f : KD_F(powf)((a + 0.055f) / 1.055f, 2.4f);
}
KD_FN float kd_to_srgb(float a) {
  const float value = kd_saturate(a);
  return value < 0.0031308f ? 12.92f * value : 1.055f * KD_F(powf)(value, 1.0f / 2.4f) - 0.055f;
}

// Words of N equal parts.
#define KD_PACKED(T, Word, norm, N, bits)                                        \
  KD_FN vec<T, N> unpack_##norm##N##x##bits##_to_##T(Word word) {                \
    vec<T, N> r;                                                                 \
    for (int i = 0; i < N; ++i) r[i] = T(kd_from_##norm(word, bits * i, bits));  \
    return r;                                                                    \
  }                                                                              \
  KD_FN Word pack_##T##_to_##norm##N##x##bits(vec<T, N> a) {                     \
    Word word = 0;                                                               \
    for (int i = 0; i < N; ++i) word |= kd_to_##norm(float(a[i]), bits) << (bits * i); \
    return word;                                                                 \
  }
#define KD_PACKED_OF(T)                                                          \
  KD_PACKED(T, uint, unorm, 4, 8)                                                \
  KD_PACKED(T, uint, snorm, 4, 8)                                                \
  KD_PACKED(T, uint, unorm, 2, 16)                                               \
  KD_PACKED(T, uint, snorm, 2, 16)                                               \
  /* Alpha is linear. */                                                         \
  KD_FN vec<T, 4> unpack_unorm4x8_srgb_to_##T(uint word) {                       \
    vec<T, 4> r;                                                                 \
    for (int i = 0; i < 3; ++i) r[i] = T(kd_from_srgb(kd_from_unorm(word, 8 * i, 8))); \
    r[3] = T(kd_from_unorm(word, 24, 8));                                        \
    return r;                                                                    \
  }                                                                              \
  KD_FN uint pack_##T##_to_srgb_unorm4x8(vec<T, 4> a) {                          \
    uint word = kd_to_unorm(float(a[3]), 8) << 24;                               \
    for (int i = 0; i < 3; ++i) word |= kd_to_unorm(kd_to_srgb(float(a[i])), 8) << (8 * i); \
    return word;                                                                 \
  }                                                                              \
  KD_FN vec<T, 4> unpack_unorm10a2_to_##T(uint word) {                           \
    return vec<T, 4>(T(kd_from_unorm(word, 0, 10)), T(kd_from_unorm(word, 10, 10)), \
                     T(kd_from_unorm(word, 20, 10)), T(kd_from_unorm(word, 30, 2))); \
  }                                                                              \
  KD_FN uint pack_##T##_to_unorm10a2(vec<T, 4> a) {                              \
    return kd_to_unorm(float(a[0]), 10) | (kd_to_unorm(float(a[1]), 10) << 10) | \
           (kd_to_unorm(float(a[2]), 10) << 20) | (kd_to_unorm(float(a[3]), 2) << 30); \
  }                                                                              \
  KD_FN vec<T, 3> unpack_unorm565_to_##T(ushort word) {                          \
    return vec<T, 3>(T(kd_from_unorm(word, 11, 5)), T(kd_from_unorm(word, 5, 6)), \
                     T(kd_from_unorm(word, 0, 5)));                              \
  }                                                                              \
  KD_FN ushort pack_##T##_to_unorm565(vec<T, 3> a) {                             \
    return ushort((kd_to_unorm(float(a[0]), 5) << 11) | (kd_to_unorm(float(a[1]), 6) << 5) | \
                  kd_to_unorm(float(a[2]), 5));                                  \
  }
KD_PACKED_OF(float) KD_PACKED_OF(half)
#undef KD_PACKED_OF
#undef KD_PACKED

}  // namespace metal
