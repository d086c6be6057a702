// Scalars: integers, half, bfloat.
#pragma once

namespace metal {

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;
typedef unsigned long size_t;
typedef long ptrdiff_t;
typedef unsigned long uintptr_t;
typedef long intptr_t;

// What Metal 4 calls the elements of tensors of 4 bits: names alone.
struct int4b_format;
struct uint4b_format;

template <class T>
inline constexpr bool kd_is_integer = false;
#define KD_INTEGER(T) \
  template <>         \
  inline constexpr bool kd_is_integer<T> = true;
KD_INTEGER(bool) KD_INTEGER(char) KD_INTEGER(signed char) KD_INTEGER(uchar) KD_INTEGER(short)
KD_INTEGER(ushort) KD_INTEGER(int) KD_INTEGER(uint) KD_INTEGER(long) KD_INTEGER(ulong)
#undef KD_INTEGER
template <class T>
inline constexpr bool kd_is_signed = T(-1) < T(0);

// 32 -> 16 bits, to nearest even. Written so that compilers vectorise it.
KD_FN constexpr ushort kd_half_bits(float value) {
#if defined(__CUDA_ARCH__)
  if (!__builtin_is_constant_evaluated()) {
    ushort bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
  }
#endif
  const uint all = KD_BITS(uint, value);
  const uint sign = (all >> 16) & 0x8000u;
  const uint x = all & 0x7fffffffu;
  const uint normal = (x + 0xc8000fffu + ((x >> 13) & 1u)) >> 13;
  const uint tiny = KD_BITS(uint, KD_BITS(float, x) + 0.5f) - 0x3f000000u;
  const uint huge = x > 0x7f800000u ? 0x7e00u : 0x7c00u;
  return ushort(sign | (x >= 0x47800000u ? huge : x < 0x38800000u ? tiny : normal));
}
KD_FN constexpr float kd_half_value(ushort bits) {
#if defined(__CUDA_ARCH__)
  if (!__builtin_is_constant_evaluated()) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
  }
#endif
  const uint sign = uint(bits & 0x8000u) << 16, rest = bits & 0x7fffu;
  const uint normal = (rest << 13) + 0x38000000u;
  const uint special = (rest << 13) | 0x7f800000u;
  const uint tiny = KD_BITS(uint, float(rest) * 0x1p-24f);
  return KD_BITS(float, sign | (rest >= 0x7c00u ? special : rest < 0x400u ? tiny : normal));
}
KD_FN constexpr ushort kd_bfloat_bits(float value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  if (!__builtin_is_constant_evaluated()) {
    ushort bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
  }
#endif
  const uint x = KD_BITS(uint, value);
  const uint rounded = (x + 0x7fffu + ((x >> 16) & 1u)) >> 16;
  return ushort((x & 0x7fffffffu) > 0x7f800000u ? (x >> 16) | 0x40u : rounded);
}
KD_FN constexpr float kd_bfloat_value(ushort bits) { return KD_BITS(float, uint(bits) << 16); }

struct half;
struct bfloat;

// A class that converts to numbers of one type, as to bool: it converts to half through them. One
// that converts to any type that a float makes converts to half itself.
struct kd_probe {
  KD_FN kd_probe(float) {}
};
template <class T>
struct kd_held;
template <class A>
inline constexpr bool kd_is_own = kd_same<A, half> || kd_same<A, bfloat>;
template <class T>
inline constexpr bool kd_is_own<kd_held<T>> = true;
template <class A, bool = __is_class(A) && !kd_is_own<A>>
inline constexpr bool kd_counts = false;
template <class A>
inline constexpr bool kd_counts<A, true> = kd_converts<A, float> && !kd_converts<A, kd_probe>;

// Any arithmetic type converts to and from half implicitly, except bfloat.
struct half {
  ushort kd_bits;
  half() = default;
  template <class A, kd_if<kd_is_integer<A> || kd_same<A, float>> = 0>
  KD_FN constexpr half(A a) : kd_bits(kd_half_bits(float(a))) {}
  KD_FN constexpr explicit half(bfloat b);
  template <class A, kd_if<kd_counts<A>> = 0, class = void>
  KD_FN constexpr half(A a) : kd_bits(kd_half_bits(float(a))) {}
  template <class A, kd_if<kd_is_integer<A> || kd_same<A, float>> = 0>
  KD_FN constexpr operator A() const {
    if constexpr (kd_same<A, bool>) return (kd_bits & 0x7fffu) != 0;
    return A(kd_half_value(kd_bits));
  }
};

// A float becomes a bfloat only explicitly.
struct bfloat {
  ushort kd_bits;
  bfloat() = default;
  template <class A, kd_if<kd_is_integer<A>> = 0>
  KD_FN constexpr bfloat(A a) : kd_bits(kd_bfloat_bits(float(a))) {}
  template <class A, kd_if<kd_same<A, float>> = 0, class = void>
  KD_FN constexpr explicit bfloat(A a) : kd_bits(kd_bfloat_bits(a)) {}
  template <class A, kd_if<kd_counts<A>> = 0, class = void, class = void>
  KD_FN constexpr bfloat(A a) : kd_bits(kd_bfloat_bits(float(a))) {}
  KD_FN constexpr explicit bfloat(half h) : kd_bits(kd_bfloat_bits(kd_half_value(h.kd_bits))) {}
  template <class A, kd_if<kd_is_integer<A> || kd_same<A, float>> = 0>
  KD_FN constexpr operator A() const {
    if constexpr (kd_same<A, bool>) return (kd_bits & 0x7fffu) != 0;
    return A(kd_bfloat_value(kd_bits));
  }
};
KD_FN constexpr half::half(bfloat b) : kd_bits(kd_half_bits(kd_bfloat_value(b.kd_bits))) {}

template <class T>
inline constexpr bool kd_is_small = kd_same<T, half> || kd_same<T, bfloat>;
template <class T>
inline constexpr bool kd_is_float = kd_same<T, float> || kd_is_small<T>;
template <class T>
inline constexpr bool kd_is_scalar = kd_is_integer<T> || kd_is_float<T>;

// The type of A op B for scalars.
template <class A, class B>
using kd_joint_scalar =
    kd_either<kd_same<A, B>, A,
              kd_either<kd_is_small<A> && kd_is_integer<B>, A,
                        kd_either<kd_is_small<B> && kd_is_integer<A>, B, float>>>;

// At least one side is small: computed in float, which is exact enough to round once.
#define KD_SMALL(A, B) kd_if<(kd_is_small<A> || kd_is_small<B>)&&kd_is_scalar<A> && kd_is_scalar<B>> = 0
#define KD_SMALL_OP(op)                                                      \
  template <class A, class B, KD_SMALL(A, B)>                                \
  KD_FN constexpr kd_joint_scalar<A, B> operator op(A a, B b) {              \
    return kd_joint_scalar<A, B>(float(a) op float(b));                      \
  }                                                                          \
  template <class A, class B, kd_if<kd_is_small<A> && kd_is_scalar<B>> = 0>  \
  KD_FN constexpr A& operator op##=(A& a, B b) {                             \
    return a = A(float(a) op float(b));                                      \
  }                                                                          \
  template <class B, kd_if<kd_is_small<B>> = 0>                              \
  KD_FN constexpr float& operator op##=(float& a, B b) {                     \
    return a = a op float(b);                                                \
  }
KD_SMALL_OP(+) KD_SMALL_OP(-) KD_SMALL_OP(*) KD_SMALL_OP(/)
#undef KD_SMALL_OP
#define KD_SMALL_COMPARE(op)                                \
  template <class A, class B, KD_SMALL(A, B)>               \
  KD_FN constexpr bool operator op(A a, B b) {              \
    return float(a) op float(b);                            \
  }
KD_SMALL_COMPARE(==) KD_SMALL_COMPARE(!=) KD_SMALL_COMPARE(<) KD_SMALL_COMPARE(>)
KD_SMALL_COMPARE(<=) KD_SMALL_COMPARE(>=)
#undef KD_SMALL_COMPARE
#undef KD_SMALL
template <class A, kd_if<kd_is_small<A>> = 0>
KD_FN constexpr A operator-(A a) {
  A r = a;
  r.kd_bits = ushort(a.kd_bits ^ 0x8000u);
  return r;
}
template <class A, kd_if<kd_is_small<A>> = 0>
KD_FN constexpr A operator+(A a) {
  return a;
}
template <class A, kd_if<kd_is_small<A>> = 0>
KD_FN constexpr A& operator++(A& a) {
  return a = A(float(a) + 1.0f);
}
template <class A, kd_if<kd_is_small<A>> = 0>
KD_FN constexpr A& operator--(A& a) {
  return a = A(float(a) - 1.0f);
}

// The bits of one type as another of the same size.
template <class To, class From>
KD_FN constexpr To as_type(From from) {
  static_assert(sizeof(To) == sizeof(From), "as_type: the two types differ in size");
  return KD_BITS(To, from);
}

// A 16-bit float in an anonymous struct, where C++ takes no class with constructors.
template <class T>
struct kd_held {
  ushort kd_bits;
  KD_FN constexpr operator T() const { return KD_BITS(T, kd_bits); }
  template <class A, kd_if<kd_is_integer<A> || kd_same<A, float>> = 0>
  KD_FN constexpr operator A() const { return A(KD_BITS(T, kd_bits)); }
  KD_FN T* operator&() { return reinterpret_cast<T*>(&kd_bits); }
  KD_FN const T* operator&() const { return reinterpret_cast<const T*>(&kd_bits); }
  template <class A, kd_if<kd_is_scalar<A>> = 0>
  KD_FN constexpr kd_held& operator=(A a) {
    kd_bits = T(a).kd_bits;
    return *this;
  }
};
template <class T>
using kd_field = kd_either<kd_is_small<T>, kd_held<T>, T>;
#define KD_HELD_OP(op)                                                              \
  template <class T, class B, kd_if<kd_is_scalar<B>> = 0>                           \
  KD_FN constexpr auto operator op(kd_held<T> a, B b) { return T(a) op b; }         \
  template <class A, class T, kd_if<kd_is_scalar<A>> = 0>                           \
  KD_FN constexpr auto operator op(A a, kd_held<T> b) { return a op T(b); }         \
  template <class T>                                                                \
  KD_FN constexpr auto operator op(kd_held<T> a, kd_held<T> b) { return T(a) op T(b); }
KD_HELD_OP(+) KD_HELD_OP(-) KD_HELD_OP(*) KD_HELD_OP(/) KD_HELD_OP(==) KD_HELD_OP(!=)
KD_HELD_OP(<) KD_HELD_OP(>) KD_HELD_OP(<=) KD_HELD_OP(>=)
#undef KD_HELD_OP
template <class T>
KD_FN constexpr T operator-(kd_held<T> a) {
  return -T(a);
}

}  // namespace metal
