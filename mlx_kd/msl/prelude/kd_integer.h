// Integer functions.
#pragma once

namespace metal {

template <class A>
inline constexpr bool kd_is_number = kd_is_integer<A> && !kd_same<A, bool>;
template <class A>
using kd_unsigned =
    kd_either<sizeof(A) == 1, uchar, kd_either<sizeof(A) == 2, ushort, kd_either<sizeof(A) == 4, uint, ulong>>>;

template <class A, kd_if<kd_is_number<A>> = 0>
KD_FN constexpr A popcount(A a) {
  ulong x = kd_unsigned<A>(a);
  x -= (x >> 1) & 0x5555555555555555ul;
  x = (x & 0x3333333333333333ul) + ((x >> 2) & 0x3333333333333333ul);
  x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0ful;
  return A((x * 0x0101010101010101ul) >> 56);
}
template <class A, kd_if<kd_is_number<A>> = 0>
KD_FN constexpr A clz(A a) {
  kd_unsigned<A> x = kd_unsigned<A>(a);
  for (int s = 1; s < int(8 * sizeof(A)); s *= 2) x = kd_unsigned<A>(x | (x >> s));
  return A(int(8 * sizeof(A)) - int(popcount(x)));
}
template <class A, kd_if<kd_is_number<A>> = 0>
KD_FN constexpr A ctz(A a) {
  const kd_unsigned<A> x = kd_unsigned<A>(a);
  return popcount(A(kd_unsigned<A>(~x & (x - 1))));
}
template <class A, kd_if<kd_is_number<A>> = 0>
KD_FN constexpr A reverse_bits(A a) {
  kd_unsigned<A> x = kd_unsigned<A>(a), r = 0;
  for (int i = 0; i < int(8 * sizeof(A)); ++i, x = kd_unsigned<A>(x >> 1))
    r = kd_unsigned<A>((r << 1) | (x & 1));
  return A(r);
}
template <class A, kd_if<kd_is_number<A>> = 0>
KD_FN constexpr A rotate(A a, A n) {
  const int bits = int(8 * sizeof(A)), s = int(n) & (bits - 1);
  const kd_unsigned<A> x = kd_unsigned<A>(a);
  return s ? A(kd_unsigned<A>((x << s) | (x >> (bits - s)))) : a;
}
template <class A, kd_if<kd_is_number<A> && sizeof(A) <= 4> = 0>
KD_FN constexpr A mulhi(A a, A b) {
  typedef kd_either<kd_is_signed<A>, long, ulong> Wide;
  return A((Wide(a) * Wide(b)) >> (8 * sizeof(A)));
}
KD_FN constexpr ulong mulhi(ulong a, ulong b) {
  const ulong al = a & 0xffffffffu, ah = a >> 32, bl = b & 0xffffffffu, bh = b >> 32;
  const ulong middle = ah * bl + ((al * bl) >> 32), low = al * bh + (middle & 0xffffffffu);
  return ah * bh + (middle >> 32) + (low >> 32);
}
KD_FN constexpr long mulhi(long a, long b) {
  const ulong high = mulhi(ulong(a), ulong(b));
  return long(high - (a < 0 ? ulong(b) : 0) - (b < 0 ? ulong(a) : 0));
}
template <class A, kd_if<kd_is_number<A>> = 0>
KD_FN constexpr A madhi(A a, A b, A c) { return A(mulhi(a, b) + c); }
KD_FN constexpr int mul24(int a, int b) {
  return int(uint(int(uint(a) << 8) >> 8) * uint(int(uint(b) << 8) >> 8));
}
KD_FN constexpr uint mul24(uint a, uint b) { return (a & 0xffffffu) * (b & 0xffffffu); }
KD_FN constexpr uint mad24(uint a, uint b, uint c) { return mul24(a, b) + c; }
KD_FN constexpr int mad24(int a, int b, int c) { return int(uint(mul24(a, b)) + uint(c)); }

template <class A>
KD_FN constexpr A kd_lowest() {
  return kd_is_signed<A> ? A(kd_unsigned<A>(1) << (8 * sizeof(A) - 1)) : A(0);
}
template <class A>
KD_FN constexpr A kd_highest() {
  return A(~kd_unsigned<A>(kd_lowest<A>()));
}
template <class A, kd_if<kd_is_number<A>> = 0>
KD_FN constexpr A addsat(A a, A b) {
  const A sum = A(kd_unsigned<A>(kd_unsigned<A>(a) + kd_unsigned<A>(b)));
  if constexpr (!kd_is_signed<A>) return sum < a ? kd_highest<A>() : sum;
  if (b > 0 && sum < a) return kd_highest<A>();
  return b < 0 && sum > a ? kd_lowest<A>() : sum;
}
template <class A, kd_if<kd_is_number<A>> = 0>
KD_FN constexpr A subsat(A a, A b) {
  const A gap = A(kd_unsigned<A>(kd_unsigned<A>(a) - kd_unsigned<A>(b)));
  if constexpr (!kd_is_signed<A>) return b > a ? A(0) : gap;
  if (b < 0 && gap < a) return kd_highest<A>();
  return b > 0 && gap > a ? kd_lowest<A>() : gap;
}
template <class A, kd_if<kd_is_number<A>> = 0>
KD_FN constexpr A madsat(A a, A b, A c) {
  if constexpr (sizeof(A) <= 4) {
    typedef kd_either<kd_is_signed<A>, long, ulong> Wide;
    const Wide r = Wide(a) * Wide(b) + Wide(c);
    return r < Wide(kd_lowest<A>()) ? kd_lowest<A>() : r > Wide(kd_highest<A>()) ? kd_highest<A>() : A(r);
  } else {
    const ulong low = ulong(a) * ulong(b) + ulong(c);
    const A carry = A(low < ulong(c)), high = A(ulong(mulhi(a, b)) + ulong(carry) - ulong(kd_is_signed<A> && c < 0));
    if (high == (kd_is_signed<A> ? A(long(low) >> 63) : A(0))) return A(low);
    return high < A(0) ? kd_lowest<A>() : kd_highest<A>();
  }
}
template <class A, kd_if<kd_is_number<A>> = 0>
KD_FN constexpr kd_unsigned<A> absdiff(A a, A b) {
  typedef kd_unsigned<A> U;
  return a > b ? U(U(a) - U(b)) : U(U(b) - U(a));
}
template <class A, kd_if<kd_is_number<A>> = 0>
KD_FN constexpr A hadd(A a, A b) { return A((a & b) + ((a ^ b) >> 1)); }
template <class A, kd_if<kd_is_number<A>> = 0>
KD_FN constexpr A rhadd(A a, A b) { return A((a | b) - ((a ^ b) >> 1)); }
template <class A, kd_if<kd_is_number<A>> = 0>
KD_FN constexpr A extract_bits(A a, uint offset, uint bits) {
  typedef kd_unsigned<A> U;
  const uint all = 8 * sizeof(A);
  if (bits == 0) return A(0);
  const U shifted = U(U(a) << (all - offset - bits));
  return kd_is_signed<A> ? A(A(shifted) >> (all - bits)) : A(U(shifted >> (all - bits)));
}
template <class A, kd_if<kd_is_number<A>> = 0>
KD_FN constexpr A insert_bits(A base, A insert, uint offset, uint bits) {
  typedef kd_unsigned<A> U;
  if (bits == 0) return base;
  const U mask = U(U(U(~U(0)) >> (8 * sizeof(A) - bits)) << offset);
  return A(U((U(base) & U(~mask)) | (U(U(insert) << offset) & mask)));
}

#define KD_EACH_ONE(name)                                  \
  template <class T, int N, kd_if<kd_is_number<T>> = 0>    \
  KD_FN constexpr vec<T, N> name(vec<T, N> a) {            \
    vec<T, N> r;                                           \
    for (int i = 0; i < N; ++i) r[i] = name(a[i]);         \
    return r;                                              \
  }
#define KD_EACH_TWO(name)                                           \
  template <class T, int N, kd_if<kd_is_number<T>> = 0>             \
  KD_FN constexpr vec<T, N> name(vec<T, N> a, vec<T, N> b) {        \
    vec<T, N> r;                                                    \
    for (int i = 0; i < N; ++i) r[i] = T(name(a[i], b[i]));         \
    return r;                                                       \
  }
KD_EACH_ONE(popcount) KD_EACH_ONE(clz) KD_EACH_ONE(ctz) KD_EACH_ONE(reverse_bits)
KD_EACH_TWO(rotate) KD_EACH_TWO(mulhi) KD_EACH_TWO(addsat) KD_EACH_TWO(subsat)
KD_EACH_TWO(hadd) KD_EACH_TWO(rhadd) KD_EACH_TWO(mul24)
#undef KD_EACH_ONE
#undef KD_EACH_TWO
#define KD_EACH_THREE(name)                                                        \
  template <class T, int N, kd_if<kd_is_number<T>> = 0>                            \
  KD_FN constexpr vec<T, N> name(vec<T, N> a, vec<T, N> b, vec<T, N> c) {          \
    vec<T, N> r;                                                                   \
    for (int i = 0; i < N; ++i) r[i] = T(name(a[i], b[i], c[i]));                  \
    return r;                                                                      \
  }
KD_EACH_THREE(madhi) KD_EACH_THREE(madsat) KD_EACH_THREE(mad24)
#undef KD_EACH_THREE
template <class T, int N, kd_if<kd_is_number<T>> = 0>
KD_FN constexpr vec<kd_unsigned<T>, N> absdiff(vec<T, N> a, vec<T, N> b) {
  vec<kd_unsigned<T>, N> r;
  for (int i = 0; i < N; ++i) r[i] = absdiff(a[i], b[i]);
  return r;
}
template <class T, int N, kd_if<kd_is_number<T>> = 0>
KD_FN constexpr vec<T, N> extract_bits(vec<T, N> a, uint offset, uint bits) {
  vec<T, N> r;
  for (int i = 0; i < N; ++i) r[i] = extract_bits(a[i], offset, bits);
  return r;
}
template <class T, int N, kd_if<kd_is_number<T>> = 0>
KD_FN constexpr vec<T, N> insert_bits(vec<T, N> a, vec<T, N> b, uint offset, uint bits) {
  vec<T, N> r;
  for (int i = 0; i < N; ++i) r[i] = insert_bits(a[i], b[i], offset, bits);
  return r;
}

}  // namespace metal

// Functions of Apple's compiler, which GCC has and NVIDIA's compilers have not.
#if KD_CUDA && !defined(KD_EMULATE_CUDA)
#define __builtin_popcount(x) int(metal::popcount(metal::uint(x)))
#define __builtin_clz(x) int(metal::clz(metal::uint(x)))
#define __builtin_ctz(x) int(metal::ctz(metal::uint(x)))
#endif
