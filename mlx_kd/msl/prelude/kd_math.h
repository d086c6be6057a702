// Floating-point functions, plain, precise:: and fast::. One argument's type decides; an integer
// alone decides nothing and is refused, as Metal refuses it.
#pragma once

namespace metal {

template <class A>
inline constexpr bool kd_one_float = kd_is_float<A>;
// The type of a function of two floats: the same type twice, or a float type and an integer.
template <class A, class B>
inline constexpr bool kd_two_floats = (kd_is_float<A> && (kd_same<A, B> || kd_is_integer<B>)) ||
                                      (kd_is_integer<A> && kd_is_float<B>);
template <class A, class B>
using kd_float_of = kd_either<kd_is_float<A>, A, B>;

KD_FN float kd_sign(float x) { return x > 0 ? 1.0f : x < 0 ? -1.0f : x == x ? x : 0.0f; }
// At most the last number of the type below 1.
template <class A>
KD_FN float kd_fract(float x) {
  constexpr float last = kd_same<A, half> ? 0x1.ffcp-1f : kd_same<A, bfloat> ? 0x1.fep-1f : 0x1.fffffep-1f;
  const float r = x - KD_F(floorf)(x);
  return r < last ? r : last;
}
// The number of the type that follows x on the way to y.
template <class A>
KD_FN A kd_nextafter(float x, float y) {
  if constexpr (kd_same<A, float>) {
    return KD_F(nextafterf)(x, y);
  } else {
    A r = A(x);
    if (!(x == x) || x == y) return r;
    if (!(y == y)) return A(y);
    if (x == 0.0f)
      r.kd_bits = ushort(y < 0.0f ? 0x8001u : 1u);
    else
      r.kd_bits = ushort((x < y) == (x > 0.0f) ? r.kd_bits + 1u : r.kd_bits - 1u);
    return r;
  }
}
// Rounded once. Products of halves are exact in float; their sum is rounded to odd there, so that
// rounding it to half is as rounding the exact one.
KD_FN half kd_fma(half a, half b, half c) {
#if defined(__CUDA_ARCH__)
  half r;
  asm("fma.rn.f16 %0, %1, %2, %3;" : "=h"(r.kd_bits) : "h"(a.kd_bits), "h"(b.kd_bits), "h"(c.kd_bits));
  return r;
#else
  const float p = float(a) * float(b), z = float(c);
  const float s = p + z, t = s - p;
  const float left = (p - (s - t)) + (z - t);
  uint bits = KD_BITS(uint, s);
  if (left != 0.0f && !(bits & 1u)) bits = (left > 0.0f) == (s > 0.0f) ? bits | 1u : bits - 1u;
  return half(left - left == 0.0f ? KD_BITS(float, bits) : s);
#endif
}
KD_FN float kd_saturate(float x) { return KD_F(fminf)(KD_F(fmaxf)(x, 0.0f), 1.0f); }
KD_FN float kd_rsqrt(float x) {
#if defined(__CUDA_ARCH__)
  return ::rsqrtf(x);
#else
  return 1.0f / KD_F(sqrtf)(x);
#endif
}
// Correctly rounded, as Metal has it for precise::rsqrt.
KD_FN float kd_precise_rsqrt(float x) {
#if defined(__CUDA_ARCH__)
  return ::__frsqrt_rn(x);
#else
  return float(1.0 / KD_F(sqrt)(double(x)));
#endif
}
KD_FN float kd_exp10(float x) {
#if KD_CUDA && !defined(KD_EMULATE_CUDA)
  return ::exp10f(x);
#else
  return float(__builtin_pow(10.0, double(x)));
#endif
}
// In [0, 2), without rounding.
KD_FN double kd_turn(float x) { return double(x) - 2.0 * double(KD_F(floorf)(x * 0.5f)); }
KD_FN float kd_sinpi(float x) { return float(KD_F(sin)(3.14159265358979323846 * kd_turn(x))); }
KD_FN float kd_cospi(float x) { return float(KD_F(cos)(3.14159265358979323846 * kd_turn(x))); }
KD_FN float kd_tanpi(float x) { return kd_sinpi(x) / kd_cospi(x); }

// Metal has these functions for half and float: a bfloat becomes a float. (MLX adds those of bfloat
// to the kernels that it makes.)
#if defined(KD_METAL_ALONE)
template <class A>
using kd_result = kd_either<kd_same<A, bfloat>, float, A>;
#else
template <class A>
using kd_result = A;
#endif

#define KD_MATH_ONE(name, expression)                                      \
  template <class A, kd_if<kd_one_float<A>> = 0>                           \
  KD_FN kd_result<A> name(A a) {                                           \
    const float x = float(a);                                              \
    return kd_result<A>(expression);                                       \
  }                                                                        \
  template <class T, int N, kd_if<kd_is_float<T>> = 0>                     \
  KD_FN vec<T, N> name(vec<T, N> a) {                                      \
    vec<T, N> r;                                                           \
    for (int i = 0; i < N; ++i) r[i] = name(a[i]);                         \
    return r;                                                              \
  }                                                                        \
  template <class T, int N>                                                \
  KD_FN vec<T, N> name(packed_vec<T, N> a) {                               \
    return name(vec<T, N>(a));                                             \
  }
#define KD_MATH_TWO(name, expression)                                      \
  template <class A, class B, kd_if<kd_two_floats<A, B>> = 0>              \
  KD_FN kd_result<kd_float_of<A, B>> name(A a, B b) {                      \
    const float x = float(a), y = float(b);                                \
    return kd_result<kd_float_of<A, B>>(expression);                       \
  }                                                                        \
  template <class A, class B, class V = kd_joint<A, B>>                    \
  KD_FN V name(A a, B b) {                                                 \
    typedef decltype(kd_element(static_cast<V*>(nullptr))) T;              \
    V r;                                                                   \
    for (int i = 0; i < kd_width<V>; ++i)                                  \
      r[i] = name(T(kd_component(a, i)), T(kd_component(b, i)));           \
    return r;                                                              \
  }

// What Metal does not have: left out where the source has a function of that name.
#if defined(KD_OWN_erf)
#define KD_MATH_ERF
#else
#define KD_MATH_ERF KD_MATH_ONE(erf, KD_F(erff)(x))
#endif
#if defined(KD_OWN_erfc)
#define KD_MATH_ERFC
#else
#define KD_MATH_ERFC KD_MATH_ONE(erfc, KD_F(erfcf)(x))
#endif
#if defined(KD_OWN_log1p)
#define KD_MATH_LOG1P
#else
#define KD_MATH_LOG1P KD_MATH_ONE(log1p, KD_F(log1pf)(x))
#endif
#if defined(KD_OWN_expm1)
#define KD_MATH_EXPM1
#else
#define KD_MATH_EXPM1 KD_MATH_ONE(expm1, KD_F(expm1f)(x))
#endif
#define KD_MATH_BEYOND KD_MATH_ERF KD_MATH_ERFC KD_MATH_LOG1P KD_MATH_EXPM1

#define KD_MATH_ALL                                                                             \
  KD_MATH_ONE(exp, KD_F(expf)(x))                                                               \
  KD_MATH_ONE(exp2, KD_F(exp2f)(x))                                                             \
  KD_MATH_ONE(exp10, kd_exp10(x))                                                               \
  KD_MATH_ONE(log, KD_F(logf)(x))                                                               \
  KD_MATH_ONE(log2, KD_F(log2f)(x))                                                             \
  KD_MATH_ONE(log10, KD_F(log10f)(x))                                                           \
  KD_MATH_ONE(sqrt, KD_F(sqrtf)(x))                                                             \
  KD_MATH_ONE(sin, KD_F(sinf)(x))                                                               \
  KD_MATH_ONE(cos, KD_F(cosf)(x))                                                               \
  KD_MATH_ONE(tan, KD_F(tanf)(x))                                                               \
  KD_MATH_ONE(asin, KD_F(asinf)(x))                                                             \
  KD_MATH_ONE(acos, KD_F(acosf)(x))                                                             \
  KD_MATH_ONE(atan, KD_F(atanf)(x))                                                             \
  KD_MATH_ONE(sinh, KD_F(sinhf)(x))                                                             \
  KD_MATH_ONE(cosh, KD_F(coshf)(x))                                                             \
  KD_MATH_ONE(tanh, KD_F(tanhf)(x))                                                             \
  KD_MATH_ONE(asinh, KD_F(asinhf)(x))                                                           \
  KD_MATH_ONE(acosh, KD_F(acoshf)(x))                                                           \
  KD_MATH_ONE(atanh, KD_F(atanhf)(x))                                                           \
  KD_MATH_ONE(sinpi, kd_sinpi(x))                                                               \
  KD_MATH_ONE(cospi, kd_cospi(x))                                                               \
  KD_MATH_ONE(tanpi, kd_tanpi(x))                                                               \
  KD_MATH_ONE(floor, KD_F(floorf)(x))                                                           \
  KD_MATH_ONE(ceil, KD_F(ceilf)(x))                                                             \
  KD_MATH_ONE(trunc, KD_F(truncf)(x))                                                           \
  KD_MATH_ONE(round, KD_F(roundf)(x))                                                           \
  KD_MATH_ONE(rint, KD_F(rintf)(x))                                                             \
  KD_MATH_ONE(fabs, KD_F(fabsf)(x))                                                             \
  KD_MATH_ONE(fract, kd_fract<A>(x))                                                            \
  KD_MATH_ONE(saturate, kd_saturate(x))                                                         \
  KD_MATH_ONE(sign, kd_sign(x))                                                                 \
  KD_MATH_BEYOND                                                                                \
  KD_MATH_TWO(pow, KD_F(powf)(x, y))                                                            \
  KD_MATH_TWO(powr, KD_F(powf)(x, y))                                                           \
  KD_MATH_TWO(fmod, KD_F(fmodf)(x, y))                                                          \
  KD_MATH_TWO(atan2, KD_F(atan2f)(x, y))                                                        \
  KD_MATH_TWO(copysign, KD_F(copysignf)(x, y))                                                  \
  KD_MATH_TWO(fmax, KD_F(fmaxf)(x, y))                                                          \
  KD_MATH_TWO(fmin, KD_F(fminf)(x, y))                                                          \
  KD_MATH_TWO(fdim, KD_F(fdimf)(x, y))                                                          \
  KD_MATH_TWO(nextafter, (kd_nextafter<kd_float_of<A, B>>(x, y)))                               \
  KD_MATH_TWO(divide, x / y)

KD_MATH_ALL
KD_MATH_ONE(rsqrt, (kd_same<A, half> ? kd_precise_rsqrt(x) : kd_rsqrt(x)))

template <class A, kd_if<kd_is_float<A>> = 0>
KD_FN A fma(A a, kd_given<A> b, kd_given<A> c) {
  if constexpr (kd_same<A, half>)
    return kd_fma(a, b, c);
  else
    return A(KD_F(fmaf)(float(a), float(b), float(c)));
}
template <class T, int N>
KD_FN vec<T, N> fma(vec<T, N> a, kd_given<vec<T, N>> b, kd_given<vec<T, N>> c) {
  vec<T, N> r;
  for (int i = 0; i < N; ++i) r[i] = fma(a[i], b[i], c[i]);
  return r;
}
template <class A, kd_if<kd_is_float<A>> = 0>
KD_FN A ldexp(A a, int n) {
  return A(KD_F(ldexpf)(float(a), n));
}
template <class A, kd_if<kd_is_float<A>> = 0>
KD_FN A frexp(A a, int& n) {
  return A(KD_F(frexpf)(float(a), &n));
}
template <class A, kd_if<kd_is_float<A>> = 0>
KD_FN int ilogb(A a) {
  return KD_F(ilogbf)(float(a));
}
template <class A, kd_if<kd_is_float<A>> = 0>
KD_FN A modf(A a, A& whole) {
  whole = A(KD_F(truncf)(float(a)));
  return A(float(a) - float(whole));
}
template <class A, kd_if<kd_is_float<A>> = 0>
KD_FN A sincos(A a, A& cosine) {
  cosine = cos(a);
  return sin(a);
}
template <class T, int N, kd_if<kd_is_float<T>> = 0>
KD_FN vec<T, N> ldexp(vec<T, N> a, vec<int, N> n) {
  vec<T, N> r;
  for (int i = 0; i < N; ++i) r[i] = ldexp(a[i], n[i]);
  return r;
}
template <class T, int N, kd_if<kd_is_float<T>> = 0>
KD_FN vec<int, N> ilogb(vec<T, N> a) {
  vec<int, N> r;
  for (int i = 0; i < N; ++i) r[i] = ilogb(a[i]);
  return r;
}
#define KD_WITH_SECOND(name, Second)                                \
  template <class T, int N, kd_if<kd_is_float<T>> = 0>              \
  KD_FN vec<T, N> name(vec<T, N> a, vec<Second, N>& second) {       \
    vec<T, N> r;                                                    \
    for (int i = 0; i < N; ++i) r[i] = name(a[i], second[i]);       \
    return r;                                                       \
  }
KD_WITH_SECOND(frexp, int) KD_WITH_SECOND(modf, T) KD_WITH_SECOND(sincos, T)
#undef KD_WITH_SECOND

#define KD_TEST(name, expression)                        \
  template <class A, kd_if<kd_is_float<A>> = 0>          \
  KD_FN bool name(A a) {                                 \
    const uint bits = KD_BITS(uint, float(a)), x = bits & 0x7fffffffu; \
    (void)x;                                             \
    return expression;                                   \
  }                                                      \
  template <class T, int N>                              \
  KD_FN vec<bool, N> name(vec<T, N> a) {                 \
    vec<bool, N> r;                                      \
    for (int i = 0; i < N; ++i) r[i] = name(a[i]);       \
    return r;                                            \
  }
KD_TEST(isnan, x > 0x7f800000u)
KD_TEST(isinf, x == 0x7f800000u)
KD_TEST(isfinite, x < 0x7f800000u)
KD_TEST(isnormal, x >= 0x00800000u && x < 0x7f800000u)
KD_TEST(signbit, (bits >> 31) != 0)
#undef KD_TEST

// What is exact, or made of functions that are alike in all three namespaces.
#define KD_MATH_REST                                                                   \
  using metal::fma; using metal::ldexp; using metal::frexp; using metal::ilogb;        \
  using metal::modf; using metal::sincos;

namespace precise {
KD_MATH_ALL
KD_MATH_ONE(rsqrt, kd_precise_rsqrt(x))
KD_MATH_REST
}  // namespace precise

// The device's short cuts on CUDA, the plain functions elsewhere.
namespace fast {
KD_MATH_ALL
KD_MATH_ONE(rsqrt, kd_rsqrt(x))
KD_MATH_REST
}  // namespace fast

#undef KD_MATH_REST
#undef KD_MATH_ALL
#undef KD_MATH_ONE
#undef KD_MATH_TWO

}  // namespace metal
