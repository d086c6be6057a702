// numeric_limits and the constants.
#pragma once

#if KD_CUDA  // the host's headers have some of them
#undef INFINITY
#undef NAN
#undef MAXFLOAT
#undef FLT_MAX
#undef FLT_MIN
#undef FLT_EPSILON
#undef HALF_MAX
#undef MAXHALF
#undef HALF_EPSILON
#undef HALF_MIN
#undef CHAR_MAX
#undef CHAR_MIN
#undef UCHAR_MAX
#undef SHRT_MAX
#undef SHRT_MIN
#undef USHRT_MAX
#undef INT_MAX
#undef INT_MIN
#undef UINT_MAX
#undef LONG_MAX
#undef LONG_MIN
#undef ULONG_MAX
#undef M_E_F
#undef M_LOG2E_F
#undef M_LOG10E_F
#undef M_LN2_F
#undef M_LN10_F
#undef M_PI_F
#undef M_PI_2_F
#undef M_PI_4_F
#undef M_1_PI_F
#undef M_2_PI_F
#undef M_2_SQRTPI_F
#undef M_SQRT2_F
#undef M_SQRT1_2_F
#undef M_PI_H
#undef KD_LIMITS
#endif

#define INFINITY (KD_BITS(float, 0x7f800000u))
#define NAN (KD_BITS(float, 0x7fc00000u))
#define MAXFLOAT 3.402823466e+38f
#define FLT_MAX 3.402823466e+38f
#define FLT_MIN 1.175494351e-38f
#define FLT_EPSILON 1.192092896e-07f
#define HALF_MAX (metal::half(65504.0f))
#define MAXHALF (metal::half(65504.0f))
#define HALF_EPSILON (metal::half(0x1p-10f))
#define HALF_MIN (metal::half(0x1p-14f))
#define CHAR_MAX 127
#define CHAR_MIN (-128)
#define UCHAR_MAX 255
#define SHRT_MAX 32767
#define SHRT_MIN (-32768)
#define USHRT_MAX 65535
#define INT_MAX 2147483647
#define INT_MIN (-2147483647 - 1)
#define UINT_MAX 4294967295u
#define LONG_MAX 9223372036854775807L
#define LONG_MIN (-9223372036854775807L - 1)
#define ULONG_MAX 18446744073709551615UL
#define M_E_F 2.71828182845904523536f
#define M_LOG2E_F 1.44269504088896340736f
#define M_LOG10E_F 0.434294481903251827651f
#define M_LN2_F 0.693147180559945309417f
#define M_LN10_F 2.30258509299404568402f
#define M_PI_F 3.14159265358979323846f
#define M_PI_2_F 1.57079632679489661923f
#define M_PI_4_F 0.785398163397448309616f
#define M_1_PI_F 0.318309886183790671538f
#define M_2_PI_F 0.636619772367581343076f
#define M_2_SQRTPI_F 1.12837916709551257390f
#define M_SQRT2_F 1.41421356237309504880f
#define M_SQRT1_2_F 0.707106781186547524401f
#define M_PI_H (metal::half(3.14159265358979323846f))

namespace metal {

// Types other than scalar numbers, such as vectors, have no limits, as in C++.
template <class T, bool = kd_is_integer<T>>
struct _numeric_limits_impl {
  static constexpr bool is_specialized = false;
  KD_FN static constexpr T min() { return T(); }
  KD_FN static constexpr T lowest() { return T(); }
  KD_FN static constexpr T max() { return T(); }
};
template <class T>
struct _numeric_limits_impl<T, true> {
  static constexpr bool is_specialized = true, is_integer = true, is_signed = kd_is_signed<T>;
  static constexpr int digits = 8 * sizeof(T) - (kd_is_signed<T> ? 1 : 0);
  KD_FN static constexpr T min() { return kd_lowest<T>(); }
  KD_FN static constexpr T lowest() { return kd_lowest<T>(); }
  KD_FN static constexpr T max() { return kd_highest<T>(); }
};
template <>
struct _numeric_limits_impl<bool> {
  KD_FN static constexpr bool min() { return false; }
  KD_FN static constexpr bool lowest() { return false; }
  KD_FN static constexpr bool max() { return true; }
};
#define KD_LIMITS(T, least, most, gap)                                       \
  template <>                                                                \
  struct _numeric_limits_impl<T> {                                                 \
    static constexpr bool is_specialized = true, is_integer = false, is_signed = true; \
    static constexpr bool has_infinity = true;                               \
    KD_FN static constexpr T min() { return T(least); }                      \
    KD_FN static constexpr T max() { return T(most); }                       \
    KD_FN static constexpr T lowest() { return T(-most); }                   \
    KD_FN static constexpr T epsilon() { return T(gap); }                    \
    KD_FN static constexpr T infinity() { return T(INFINITY); }              \
    KD_FN static constexpr T quiet_NaN() { return T(NAN); }                  \
  };
KD_LIMITS(float, FLT_MIN, FLT_MAX, FLT_EPSILON)
KD_LIMITS(half, 0x1p-14f, 65504.0f, 0x1p-10f)
KD_LIMITS(bfloat, 0x1p-126f, 0x1.fep127f, 0x1p-7f)
#undef KD_LIMITS
template <class T>
struct numeric_limits : _numeric_limits_impl<T> {};

}  // namespace metal
