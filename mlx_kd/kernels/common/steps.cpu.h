// Steps: the vectors that a CPU kernel reads, computes with in float and writes, for the three
// types and every processor. <op>.cpu.cpp includes it below its knobs. Macros:
//
//   KD_DTYPE  0 float32, 1 float16, 2 bfloat16       VEC     bytes of a vector of floats
//   BF16      1: AVX512_BF16 rounds bfloat16         STREAM  > 0: some stores bypass the caches
//
// A step is kStep elements of type T, held as kParts vectors of floats. load, store, and load_some,
// store_some for the last elements of a row; put<true> and stream write past the caches, to
// addresses that are multiples of kStepBytes (head_of counts the elements before the first one),
// and finish_streams ends a kernel that does so. rounded: the values as they are once stored.
// product: a product that the compiler does not fuse with a sum.
//
// The text below the pragma is in the hash of every CPU kernel: a changed byte makes other kernels.
#ifndef KD_DTYPE
#define KD_DTYPE 0
#endif
#ifndef VEC
#define VEC 16
#endif
#ifndef BF16
#define BF16 0
#endif
#ifndef STREAM
#define STREAM 0
#endif
#pragma once
// --- elements and vectors: the same text in every CPU kernel here; a test compares them ---
#ifdef __clang__
#define KD_UNROLL _Pragma("clang loop unroll(full)")
#else
#define KD_UNROLL _Pragma("GCC unroll 32")
#endif
#define KD_INLINE static inline __attribute__((always_inline))

// Bytes of a register: in an object for an older x86, vectors may be wider.
#if defined(__AVX512F__)
#define KD_REGISTER 64
#elif defined(__AVX__)
#define KD_REGISTER 32
#else
#define KD_REGISTER 16
#endif

#if KD_DTYPE == 0
typedef float T;
#else
typedef unsigned short T;
#endif
typedef float Floats __attribute__((vector_size(VEC)));
typedef unsigned Uints __attribute__((vector_size(VEC)));

// A step is what one load brings: kParts vectors of float, worked on together. A bfloat16 step
// holds the even elements in one and the odd ones in the other: a shift and a mask.
constexpr int kParts = KD_DTYPE == 2 ? 2 : 1;
#if KD_DTYPE == 1
#define KD_STEP_BYTES (VEC / 2)
#else
#define KD_STEP_BYTES VEC
#endif
constexpr long kStepBytes = KD_STEP_BYTES;
constexpr long kStep = kStepBytes / long(sizeof(T));
struct Step {
  Floats part[kParts];
};
typedef T Stored __attribute__((vector_size(kStepBytes)));

#if KD_DTYPE == 1 && defined(__AVX512F__) && VEC == 64
typedef short Shorts __attribute__((vector_size(32)));
KD_INLINE Step widen(Stored stored) {
  return {{__builtin_ia32_vcvtph2ps512_mask((Shorts)stored, Floats{}, 0xffff, 4)}};
}
KD_INLINE Stored narrow(Step step) {
  return (Stored)__builtin_ia32_vcvtps2ph512_mask(step.part[0], 0, Shorts{}, 0xffff);
}
#elif KD_DTYPE == 1 && defined(__F16C__) && VEC == 32
typedef short Shorts __attribute__((vector_size(16)));
KD_INLINE Step widen(Stored stored) {
  return {{__builtin_ia32_vcvtph2ps256((Shorts)stored)}};
}
KD_INLINE Stored narrow(Step step) {
  return (Stored)__builtin_ia32_vcvtps2ph256(step.part[0], 0);
}
#elif KD_DTYPE == 1 && defined(__F16C__) && VEC == 16
typedef short Shorts __attribute__((vector_size(16)));
typedef long long Pair __attribute__((vector_size(16)));
KD_INLINE Step widen(Stored stored) {
  return {{__builtin_ia32_vcvtph2ps((Shorts)Pair{(long long)stored, 0})}};
}
KD_INLINE Stored narrow(Step step) {
  return (Stored)((Pair)__builtin_ia32_vcvtps2ph(step.part[0], 0))[0];
}
#elif KD_DTYPE == 1
KD_INLINE Uints select(Uints mask, Uints yes, Uints no) {
  return (mask & yes) | (~mask & no);
}
KD_INLINE Step widen(Stored stored) {
  const Uints bits = __builtin_convertvector(stored, Uints);
  const Uints shifted = (bits & 0x7fff) << 13;
  const Uints finite = (Uints)((Floats)shifted * 0x1p112f);
  const Uints magnitude = select((Uints)(shifted >= 0x0f800000u), shifted | 0x7f800000u, finite);
  return {{(Floats)(magnitude | (bits & 0x8000) << 16)}};
}
KD_INLINE Stored narrow(Step step) {
  const Uints bits = (Uints)step.part[0], magnitude = bits & 0x7fffffff;
  const Uints normal = (magnitude + 0xfff + ((magnitude >> 13) & 1) - 0x38000000u) >> 13;
  // Adding 1/2 lets the float unit round a subnormal to a multiple of 2^-24.
  const Uints subnormal = (Uints)((Floats)magnitude + 0.5f) - 0x3f000000u;
  Uints result = select((Uints)(magnitude < 0x38800000u), subnormal, normal);
  result = select((Uints)(magnitude >= 0x477ff000u), Uints{} + 0x7c00, result);
  result = select((Uints)(magnitude > 0x7f800000u), Uints{} + 0x7e00, result);
  return __builtin_convertvector(result | (bits >> 16 & 0x8000), Stored);
}
#elif KD_DTYPE == 2
KD_INLINE Step widen(Stored stored) {
  return {{(Floats)((Uints)stored << 16), (Floats)((Uints)stored & 0xffff0000u)}};
}
#if BF16 && defined(__AVX512BF16__)
// The processor's own rounding, which flushes subnormals: all of the even elements, then all of the
// odd ones.
KD_INLINE Stored narrow(Step step) {
#if defined(__clang__)
#define KD_PAIRED(bits, lanes) __builtin_ia32_cvtne2ps2bf16_##bits
#elif __GNUC__ >= 13
#define KD_PAIRED(bits, lanes) __builtin_ia32_cvtne2ps2bf16_v##lanes##bf
#else
#define KD_PAIRED(bits, lanes) __builtin_ia32_cvtne2ps2bf16_v##lanes##hi
#endif
#if VEC == 64
  const auto apart = (Stored)KD_PAIRED(512, 32)(step.part[1], step.part[0]);
#elif VEC == 32
  const auto apart = (Stored)KD_PAIRED(256, 16)(step.part[1], step.part[0]);
#else
  const auto apart = (Stored)KD_PAIRED(128, 8)(step.part[1], step.part[0]);
#endif
#if VEC == 64
  return __builtin_shufflevector(apart, apart, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7,
                                 23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif VEC == 32
  return __builtin_shufflevector(apart, apart, 0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7,
                                 15);
#else
  return __builtin_shufflevector(apart, apart, 0, 4, 1, 5, 2, 6, 3, 7);
#endif
}
[[maybe_unused]] KD_INLINE Step rounded(Step step) {
  return widen(narrow(step));
}
#else
// To nearest even, in the upper half. A NaN here comes from bfloat16 or from the processor: its low
// half is zero, so that nothing carries into the exponent.
KD_INLINE Uints round_upper(Floats value) {
  const Uints bits = (Uints)value;
  return bits + 0x7fff + (bits >> 16 & 1);
}
KD_INLINE Stored narrow(Step step) {
  return (Stored)((round_upper(step.part[1]) & 0xffff0000u) | round_upper(step.part[0]) >> 16);
}
[[maybe_unused]] KD_INLINE Step rounded(Step step) {
  return {{(Floats)(round_upper(step.part[0]) & 0xffff0000u),
           (Floats)(round_upper(step.part[1]) & 0xffff0000u)}};
}
#endif
#endif

// rounded(): the same values as they will be once stored.
#if KD_DTYPE == 0
KD_INLINE Step widen(Stored stored) {
  return {{stored}};
}
KD_INLINE Stored narrow(Step step) {
  return step.part[0];
}
[[maybe_unused]] KD_INLINE Step rounded(Step step) {
  return step;
}
#elif KD_DTYPE == 1
[[maybe_unused]] KD_INLINE Step rounded(Step step) {
  return widen(narrow(step));
}
#endif

KD_INLINE Step load(const T* from) {
  Stored stored;
  __builtin_memcpy(&stored, from, sizeof stored);
  return widen(stored);
}

KD_INLINE void store(T* to, Step step) {
  const Stored stored = narrow(step);
  __builtin_memcpy(to, &stored, sizeof stored);
}

// Past the caches; `to` is aligned to kStepBytes.
[[maybe_unused]] KD_INLINE void stream(T* to, Stored stored) {
#ifdef __clang__
  __builtin_nontemporal_store(stored, (Stored*)to);
#elif defined(__x86_64__) && KD_STEP_BYTES == 8
  __builtin_ia32_movnti64((long long*)to, (long long)stored);
#elif defined(__x86_64__) && KD_STEP_BYTES > KD_REGISTER
  typedef float Part __attribute__((vector_size(16)));
  Part parts[kStepBytes / sizeof(Part)];
  __builtin_memcpy(parts, &stored, sizeof stored);
  for (unsigned i = 0; i < kStepBytes / sizeof(Part); ++i)
    __builtin_ia32_movntps((float*)to + 4 * i, parts[i]);
#elif defined(__x86_64__)
  typedef float Line __attribute__((vector_size(KD_STEP_BYTES)));
#if KD_STEP_BYTES == 64
  __builtin_ia32_movntps512((float*)to, (Line)stored);
#elif KD_STEP_BYTES == 32
  __builtin_ia32_movntps256((float*)to, (Line)stored);
#else
  __builtin_ia32_movntps((float*)to, (Line)stored);
#endif
#else
  __builtin_memcpy(to, &stored, sizeof stored);
#endif
}

template <bool kPast>
KD_INLINE void put(T* to, Step step) {
  if constexpr (kPast)
    stream(to, narrow(step));
  else
    store(to, step);
}

// A product that is rounded: the compiler cannot see through to fuse it with a sum, which it would
// do in one loop and not in another.
[[maybe_unused]] KD_INLINE Floats product(Floats a, Floats b) {
  Floats ab = a * b;
#if defined(__x86_64__) && VEC > KD_REGISTER
  typedef float Part __attribute__((vector_size(KD_REGISTER)));
  Part parts[VEC / KD_REGISTER];
  __builtin_memcpy(parts, &ab, sizeof ab);
  for (Part& part : parts) asm("" : "+x"(part));
  __builtin_memcpy(&ab, parts, sizeof ab);
#elif defined(__AVX512F__)
  asm("" : "+v"(ab));
#elif defined(__x86_64__)
  asm("" : "+x"(ab));
#elif defined(__aarch64__)
  asm("" : "+w"(ab));
#endif
  return ab;
}

[[maybe_unused]] KD_INLINE Step load_some(const T* from, long count) {
  T whole[kStep] = {};
  for (long i = 0; i < count; ++i) whole[i] = from[i];
  return load(whole);
}

[[maybe_unused]] KD_INLINE void store_some(T* to, Step step, long count) {
  T whole[kStep];
  store(whole, step);
  for (long i = 0; i < count; ++i) to[i] = whole[i];
}

// Elements before the first address that stream() takes, at most `limit`.
[[maybe_unused]] KD_INLINE long head_of(const T* to, long limit) {
  const long head = long(-(unsigned long)to % kStepBytes / sizeof(T));
  return head < limit ? head : limit;
}

template <long kBytes>
KD_INLINE void fetch_lines(const T* from, long ahead_bytes) {
  KD_UNROLL
  for (long line = 0; line < kBytes; line += 64)
    __builtin_prefetch((const char*)from + ahead_bytes + line);
}

// Streamed stores become visible in order before the call returns.
KD_INLINE void finish_streams() {
#if STREAM && defined(__x86_64__)
  __builtin_ia32_sfence();
#endif
}
// --- end of the common text ---
