// clang-format off
// A group of threads that takes one matrix: what its threads find together, and scales.
#pragma once
#define KD_INLINE static __device__ __forceinline__

constexpr unsigned kAll = 0xffffffffu;

KD_INLINE bool is_finite(float x) {
  return (__float_as_uint(x) & 0x7f800000u) != 0x7f800000u;
}

KD_INLINE float not_a_number() {
  return __int_as_float(0x7fc00000);
}

KD_INLINE unsigned largest_of_warp(unsigned x) {
#if __CUDA_ARCH__ >= 800
  return __reduce_max_sync(kAll, x);
#else
  for (int other = 16; other > 0; other /= 2) x = max(x, __shfl_xor_sync(kAll, x, other));
  return x;
#endif
}

// Sums over `parts` neighbouring lanes, a power of two; all lanes of the warp call it.
KD_INLINE float sum_of_parts(float x, int parts) {
  for (int other = 1; other < parts; other *= 2) x += __shfl_xor_sync(kAll, x, other);
  return x;
}

// Powers of two that bring the largest element near 1, and back: the bits are those of its magnitude.
struct Scale {
  float to, back;
};
KD_INLINE Scale scale_of(unsigned largest) {
  const int exponent = min(max((int)(largest >> 23), 4), 250);
  return {__uint_as_float((unsigned)(254 - exponent) << 23), __uint_as_float((unsigned)exponent << 23)};
}
