// Barriers, simd_* and quad_* functions. In C++ each call names its site first (the translation
// writes it): threads meet there.
#pragma once

namespace metal {

struct kd_site {
  int id;
};

// Types that lanes exchange: numbers of up to 32 bits, and vectors of them.
template <class T>
inline constexpr bool kd_lane_type = kd_is_scalar<T> && !kd_same<T, bool> && sizeof(T) <= 4;
template <class T, int N>
inline constexpr bool kd_lane_type<vec<T, N>> = kd_lane_type<T>;
template <class T>
inline constexpr bool kd_lane_integer = kd_is_integer<T> && kd_lane_type<T>;
template <class T, int N>
inline constexpr bool kd_lane_integer<vec<T, N>> = kd_lane_integer<T>;

struct kd_sum {
  template <class T>
  KD_FN static T join(T a, T b) { return T(a + b); }
  template <class T>
  KD_FN static T none() { return T(0); }
};
struct kd_product {
  template <class T>
  KD_FN static T join(T a, T b) { return T(a * b); }
  template <class T>
  KD_FN static T none() { return T(1); }
};
struct kd_max {
  template <class T>
  KD_FN static T join(T a, T b) { return max(a, b); }
};
struct kd_min {
  template <class T>
  KD_FN static T join(T a, T b) { return min(a, b); }
};
struct kd_and {
  template <class T>
  KD_FN static T join(T a, T b) { return T(a & b); }
};
struct kd_or {
  template <class T>
  KD_FN static T join(T a, T b) { return T(a | b); }
};
struct kd_xor {
  template <class T>
  KD_FN static T join(T a, T b) { return T(a ^ b); }
};

struct simd_vote {
  typedef ulong vote_t;
  ulong kd_bits;
  KD_FN explicit constexpr simd_vote(ulong bits = 0) : kd_bits(bits) {}
  KD_FN explicit constexpr operator ulong() const { return kd_bits; }
  KD_FN constexpr bool all() const { return (kd_bits & 0xffffffffu) == 0xffffffffu; }
  KD_FN constexpr bool any() const { return kd_bits != 0; }
};
typedef simd_vote quad_vote;

#if KD_CUDA
#include "kd_simd_cuda.h"
#define KD_SITE
#define KD_AT
#define KD_ALONE
#else
#include "kd_simd_cpp.h"
#define KD_SITE kd_site site,
#define KD_AT site,
#define KD_ALONE kd_site site
#endif

KD_DEVICE void threadgroup_barrier(KD_SITE mem_flags flags,
                                   thread_scope = thread_scope_threadgroup) {
  kd_barrier(KD_AT 0, int(flags));
}
KD_DEVICE void simdgroup_barrier(KD_SITE mem_flags flags,
                                 thread_scope = thread_scope_simdgroup) {
  kd_barrier(KD_AT 1, int(flags));
}

// Reductions and scans, over 32 lanes and over 4.
#define KD_REDUCE(name, op, condition)                        \
  template <class T, kd_if<condition<T>> = 0>                 \
  KD_DEVICE T simd_##name(KD_SITE T v) {                      \
    return kd_reduce<T, op, 32>(KD_AT v);                     \
  }                                                           \
  template <class T, kd_if<condition<T>> = 0>                 \
  KD_DEVICE T quad_##name(KD_SITE T v) {                      \
    return kd_reduce<T, op, 4>(KD_AT v);                      \
  }
KD_REDUCE(sum, kd_sum, kd_lane_type)
KD_REDUCE(product, kd_product, kd_lane_type)
KD_REDUCE(max, kd_max, kd_lane_type)
KD_REDUCE(min, kd_min, kd_lane_type)
KD_REDUCE(and, kd_and, kd_lane_integer)
KD_REDUCE(or, kd_or, kd_lane_integer)
KD_REDUCE(xor, kd_xor, kd_lane_integer)
#undef KD_REDUCE
#define KD_SCAN(name, op, exclusive)                                    \
  template <class T, kd_if<kd_lane_type<T>> = 0>                        \
  KD_DEVICE T simd_prefix_##name(KD_SITE T v) {                         \
    return kd_scan<T, op, exclusive, 32>(KD_AT v);                      \
  }                                                                     \
  template <class T, kd_if<kd_lane_type<T>> = 0>                        \
  KD_DEVICE T quad_prefix_##name(KD_SITE T v) {                         \
    return kd_scan<T, op, exclusive, 4>(KD_AT v);                       \
  }
KD_SCAN(inclusive_sum, kd_sum, false)
KD_SCAN(exclusive_sum, kd_sum, true)
KD_SCAN(inclusive_product, kd_product, false)
KD_SCAN(exclusive_product, kd_product, true)
#undef KD_SCAN

// Shuffles. `from` counts lanes of the simdgroup, or of the quad. A lane that does not exist, or
// that does not take part, gives the value that the lane has itself.
#define KD_SHUFFLE(name, from)                                          \
  template <class T, kd_if<kd_lane_type<T>> = 0>                        \
  KD_DEVICE T simd_##name(KD_SITE T v, ushort n) {                      \
    const int lane = int(kd_lane()), width = 32;                        \
    (void)lane, (void)width;                                            \
    return kd_shuffle<T, 32>(KD_AT v, from);                            \
  }                                                                     \
  template <class T, kd_if<kd_lane_type<T>> = 0>                        \
  KD_DEVICE T quad_##name(KD_SITE T v, ushort n) {                      \
    const int lane = int(kd_lane() & 3u), width = 4;                    \
    (void)lane, (void)width;                                            \
    return kd_shuffle<T, 4>(KD_AT v, from);                             \
  }
KD_SHUFFLE(shuffle, int(n))
KD_SHUFFLE(broadcast, int(n))
KD_SHUFFLE(shuffle_xor, lane ^ int(n))
KD_SHUFFLE(shuffle_down, lane + int(n))
KD_SHUFFLE(shuffle_up, lane - int(n))
KD_SHUFFLE(shuffle_rotate_down, (lane + int(n)) & (width - 1))
KD_SHUFFLE(shuffle_rotate_up, (lane - int(n)) & (width - 1))
#undef KD_SHUFFLE
// Within parts of `modulo` lanes: 2, 4, 8, 16, 32.
template <class T, kd_if<kd_lane_type<T>> = 0>
KD_DEVICE T simd_shuffle_and_fill_down(KD_SITE T v, T fill, ushort n, ushort modulo = 32) {
  const int lane = int(kd_lane()), width = int(modulo), at = lane % width, start = lane - at;
  const T moved = kd_shuffle<T, 32>(KD_AT v, start + at + int(n));
  const T filled = kd_shuffle<T, 32>(KD_AT fill, start + at + int(n) - width);
  return at + int(n) < width ? moved : filled;
}
template <class T, kd_if<kd_lane_type<T>> = 0>
KD_DEVICE T simd_shuffle_and_fill_up(KD_SITE T v, T fill, ushort n, ushort modulo = 32) {
  const int lane = int(kd_lane()), width = int(modulo), at = lane % width, start = lane - at;
  const T moved = kd_shuffle<T, 32>(KD_AT v, start + at - int(n));
  const T filled = kd_shuffle<T, 32>(KD_AT fill, start + at - int(n) + width);
  return at >= int(n) ? moved : filled;
}
template <class T, kd_if<kd_lane_type<T>> = 0>
KD_DEVICE T simd_broadcast_first(KD_SITE T v) {
  return kd_first<T, 32>(KD_AT v);
}
template <class T, kd_if<kd_lane_type<T>> = 0>
KD_DEVICE T quad_broadcast_first(KD_SITE T v) {
  return kd_first<T, 4>(KD_AT v);
}

KD_DEVICE simd_vote simd_ballot(KD_SITE bool v) { return simd_vote(kd_ballot(KD_AT v).votes); }
KD_DEVICE bool simd_all(KD_SITE bool v) {
  const kd_votes r = kd_ballot(KD_AT v);
  return r.votes == r.active;
}
KD_DEVICE bool simd_any(KD_SITE bool v) { return kd_ballot(KD_AT v).votes != 0; }
KD_DEVICE simd_vote simd_active_threads_mask(KD_ALONE) {
  return simd_vote(kd_ballot(KD_AT true).active);
}
KD_DEVICE bool simd_is_first(KD_ALONE) {
  const uint active = kd_ballot(KD_AT true).active;
  return (active & ((1u << kd_lane()) - 1u)) == 0;
}
KD_DEVICE uint kd_quad_bits(uint bits) { return (bits >> (kd_lane() & 28u)) & 15u; }
KD_DEVICE quad_vote quad_ballot(KD_SITE bool v) {
  return quad_vote(kd_quad_bits(kd_ballot(KD_AT v).votes));
}
KD_DEVICE bool quad_all(KD_SITE bool v) {
  const kd_votes r = kd_ballot(KD_AT v);
  return kd_quad_bits(r.votes) == kd_quad_bits(r.active);
}
KD_DEVICE bool quad_any(KD_SITE bool v) { return kd_quad_bits(kd_ballot(KD_AT v).votes) != 0; }

}  // namespace metal
