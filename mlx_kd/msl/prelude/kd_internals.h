// Names of Apple's own headers that sources use for overloads of bfloat (__metal_exp(x, fast)).
#pragma once

namespace metal {

#define KD_INTERNAL(name) \
  KD_FN float __metal_##name(float a, int = 0) { return name(a); }
KD_INTERNAL(fabs) KD_INTERNAL(acos) KD_INTERNAL(acosh) KD_INTERNAL(asin) KD_INTERNAL(asinh)
KD_INTERNAL(atan) KD_INTERNAL(atanh) KD_INTERNAL(ceil) KD_INTERNAL(cos) KD_INTERNAL(cosh)
KD_INTERNAL(cospi) KD_INTERNAL(exp) KD_INTERNAL(exp2) KD_INTERNAL(exp10) KD_INTERNAL(floor)
KD_INTERNAL(fract) KD_INTERNAL(log) KD_INTERNAL(log2) KD_INTERNAL(log10) KD_INTERNAL(rint)
KD_INTERNAL(round) KD_INTERNAL(rsqrt) KD_INTERNAL(sin) KD_INTERNAL(sinh) KD_INTERNAL(sinpi)
KD_INTERNAL(sqrt) KD_INTERNAL(tan) KD_INTERNAL(tanh) KD_INTERNAL(tanpi) KD_INTERNAL(trunc)
#undef KD_INTERNAL
#define KD_INTERNAL(name) \
  KD_FN float __metal_##name(float a, float b, int = 0) { return name(a, b); }
KD_INTERNAL(atan2) KD_INTERNAL(copysign) KD_INTERNAL(divide) KD_INTERNAL(fdim) KD_INTERNAL(fmax)
KD_INTERNAL(fmin) KD_INTERNAL(fmod) KD_INTERNAL(nextafter) KD_INTERNAL(pow) KD_INTERNAL(powr)
#undef KD_INTERNAL
#define KD_INTERNAL(name) \
  KD_FN float __metal_##name(float a, float b, float c, int = 0) { return name(a, b, c); }
KD_INTERNAL(fma) KD_INTERNAL(fmax3) KD_INTERNAL(fmin3) KD_INTERNAL(fmedian3)
#undef KD_INTERNAL
KD_FN float __metal_ldexp(float a, int n, int = 0) { return ldexp(a, n); }
KD_FN float __metal_frexp(float a, int* n, int = 0) { return frexp(a, *n); }

KD_FN ushort __metal_get_simdgroup_size(ushort) { return 32; }
KD_DEVICE ushort __metal_get_thread_index_in_simdgroup(ushort) { return ushort(kd_lane()); }
#define KD_INTERNAL(name)                          \
  template <class T, class... N>                   \
  KD_DEVICE T __metal_simd_##name(KD_SITE T a, N... n) { \
    return simd_##name(KD_AT a, n...);             \
  }
KD_INTERNAL(broadcast) KD_INTERNAL(shuffle) KD_INTERNAL(shuffle_down) KD_INTERNAL(shuffle_up)
KD_INTERNAL(shuffle_rotate_down) KD_INTERNAL(shuffle_rotate_up) KD_INTERNAL(shuffle_xor)
KD_INTERNAL(shuffle_and_fill_down) KD_INTERNAL(shuffle_and_fill_up) KD_INTERNAL(sum)
KD_INTERNAL(product) KD_INTERNAL(max) KD_INTERNAL(min) KD_INTERNAL(prefix_inclusive_sum) KD_INTERNAL(prefix_exclusive_sum)
KD_INTERNAL(prefix_inclusive_product) KD_INTERNAL(prefix_exclusive_product)
#undef KD_INTERNAL
// Of a float: of its bits.
#define KD_INTERNAL(name)                                                     \
  template <class T>                                                          \
  KD_DEVICE T __metal_simd_##name(KD_SITE T a) {                              \
    if constexpr (kd_same<T, float>)                                          \
      return KD_BITS(float, simd_##name(KD_AT KD_BITS(uint, a)));             \
    else                                                                      \
      return simd_##name(KD_AT a);                                            \
  }
KD_INTERNAL(and) KD_INTERNAL(or) KD_INTERNAL(xor)
#undef KD_INTERNAL

}  // namespace metal
