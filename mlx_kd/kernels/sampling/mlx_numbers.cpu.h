// The numbers of a sampler bit for bit as MLX's CPU back end makes them: rounding to the type T,
// exponentials, and the bits of random keys. A loop over them is left to the compiler to vectorise.
//
// Macros: KD_DTYPE 0 float32, 1 float16, 2 bfloat16. NaN is not handled: a row with it has no draw.
#ifndef KD_DTYPE
#define KD_DTYPE 0
#endif
#pragma once
// Sums and products are rounded one by one, as in MLX, whatever the flags say.
#ifdef __clang__
#pragma clang fp contract(off)
#else
#pragma GCC optimize("fp-contract=off")
#endif
#define KD_INLINE static inline __attribute__((always_inline))

#if KD_DTYPE == 0
typedef float T;
#else
typedef unsigned short T;
#endif

constexpr float kInfinity = __builtin_inff(), kNan = __builtin_nanf("");

KD_INLINE unsigned bits_of(float x) {
  return __builtin_bit_cast(unsigned, x);
}

KD_INLINE float float_of(unsigned bits) {
  return __builtin_bit_cast(float, bits);
}

KD_INLINE float widen(T x) {
#if KD_DTYPE == 0
  return x;
#elif KD_DTYPE == 2
  return float_of(unsigned(x) << 16);
#else
  const unsigned shifted = (x & 0x7fffu) << 13;
  const unsigned finite = bits_of(float_of(shifted) * 0x1p112f);
  const unsigned magnitude = shifted >= 0x0f800000u ? shifted | 0x7f800000u : finite;
  return float_of(magnitude | (x & 0x8000u) << 16);
#endif
}

// x as it is once stored as T.
KD_INLINE float rounded(float x) {
#if KD_DTYPE == 0
  return x;
#elif KD_DTYPE == 2
  const unsigned bits = bits_of(x);
  return float_of((bits + 0x7fffu + ((bits >> 16) & 1)) & 0xffff0000u);
#else
  const unsigned bits = bits_of(x), magnitude = bits & 0x7fffffffu;
  const unsigned normal = (magnitude + 0xfff + ((magnitude >> 13) & 1)) & ~0x1fffu;
  // Adding 1/2 rounds to a multiple of 2^-24, the least subnormal.
  const unsigned subnormal = bits_of((float_of(magnitude) + 0.5f) - 0.5f);
  unsigned result = magnitude < 0x38800000u ? subnormal : normal;
  result = result >= 0x47800000u ? 0x7f800000u : result;
  return float_of(result | (bits & 0x80000000u));
#endif
}

// MLX's exponential: 2^n of the nearest integer, the larger of two, times a polynomial. Infinite
// above 88, 0 below -88.
KD_INLINE float exp_as_mlx(float x) {
  const float at = x < -100.0f ? -100.0f : x > 100.0f ? 100.0f : x;
  const float scaled = at * 1.442695f;
  float whole = __builtin_rintf(scaled);
  whole = scaled - whole == 0.5f ? whole + 1.0f : whole;
  const float part = scaled - whole;
  float y = 1.535336188319500e-4f;
  y = __builtin_fmaf(y, part, 1.339887440266574e-3f);
  y = __builtin_fmaf(y, part, 9.618437357674640e-3f);
  y = __builtin_fmaf(y, part, 5.550332471162809e-2f);
  y = __builtin_fmaf(y, part, 2.402264791363012e-1f);
  y = __builtin_fmaf(y, part, 6.931472028550421e-1f);
  y = __builtin_fmaf(y, part, 1.000000000000000f);
  const float result = float_of(unsigned(int(whole) + 127) << 23) * y;
  return x < -88.0f ? 0.0f : x > 88.0f ? kInfinity : result;
}

struct Key {
  unsigned first, second;
};

// Threefry-2x32, 20 rounds (Salmon et al. 2011).
KD_INLINE Key hash_of(Key key, unsigned a, unsigned b) {
  const unsigned keys[3] = {key.first, key.second, key.first ^ key.second ^ 0x1bd11bdau};
  a += keys[0];
  b += keys[1];
#define KD_ROUND(by) a += b, b = b << by | b >> (32 - by), b ^= a
#define KD_FOUR(w, x, y, z, turn)                     \
  KD_ROUND(w), KD_ROUND(x), KD_ROUND(y), KD_ROUND(z); \
  a += keys[turn % 3], b += keys[(turn + 1) % 3] + turn
  KD_FOUR(13, 15, 26, 6, 1);
  KD_FOUR(17, 29, 16, 24, 2);
  KD_FOUR(13, 15, 26, 6, 3);
  KD_FOUR(17, 29, 16, 24, 4);
  KD_FOUR(13, 15, 26, 6, 5);
#undef KD_FOUR
#undef KD_ROUND
  return {a, b};
}

// Element i of `count` random words of a key: the first half are the first words of hashes, the
// second half their second words.
KD_INLINE unsigned word_of(Key key, unsigned i, unsigned count) {
  const unsigned half = count / 2, odd = count % 2;
  const bool is_first = i < half, is_middle = odd && i == half;
  const unsigned a = is_first || is_middle ? i : i - half - odd;
  const Key hash = hash_of(key, a, is_middle ? 0 : a + half + odd);
  return is_first || is_middle ? hash.first : hash.second;
}

// In [0, 1), as mx.random.uniform makes it of a word.
KD_INLINE float uniform_of(unsigned word) {
  const float u = float(word) * 0x1p-32f;
  return u < 0x1.fffffep-1f ? u : 0x1.fffffep-1f;
}

// mx.random.split: the state becomes its first half, and the second is used.
KD_INLINE Key take_key(Key& state) {
  const Key a = hash_of(state, 0, 2), b = hash_of(state, 1, 3);
  state = {a.first, b.first};
  return {a.second, b.second};
}
