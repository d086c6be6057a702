// swiglu: y = gate * sigmoid(gate) * up, element by element.
//
// inputs gate, up (rows, D); output y (rows, D); dims rows, D, N = rows * D; no params; a unit is a
// block of 1024 elements. Includes no header, so that it compiles in a tenth of a second.
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef VEC
#define VEC 16  // bytes of a vector of floats
#endif
#ifndef BF16
#define BF16 0  // bfloat16 is rounded by integer arithmetic (0) or by AVX512_BF16 (1)
#endif
#ifndef UNROLL
#define UNROLL 2  // steps a turn of the loop
#endif
#ifndef DEGREE
#define DEGREE 5  // of the polynomial for 2^f, |f| <= 1/2: 1.5 or 0.03 units of 2^-24
#endif
#ifndef ESTRIN
#define ESTRIN 0  // the polynomial as a chain (0) or as a tree (1)
#endif
#ifndef SPLIT
#define SPLIT 0  // 1: log2(e) in two parts, a more exact fraction
#endif
#ifndef SCALEF
#define SCALEF 0  // 2^n by integer arithmetic (0) or by AVX512 instructions (1)
#endif
#ifndef DIVIDE
#define DIVIDE 0  // division (0), or the processor's estimate of 1/x and a Newton step (1)
#endif
#ifndef STREAM
#define STREAM 0  // 1: y bypasses the caches
#endif
#ifndef PREFETCH
#define PREFETCH 0  // bytes ahead of the loop
#endif

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

constexpr long kUnit = 1024;  // elements

KD_INLINE Floats all(float value) {
  return Floats{} + value;
}

KD_INLINE Floats least(Floats a, Floats b) {
  return a < b ? a : b;
}

// 2^f for |f| <= 1/2: least relative error with the constant term 1.
KD_INLINE Floats power(Floats f) {
#if DEGREE == 5 && ESTRIN
  const Floats f2 = f * f;
  const Floats low = f * 0x1.62e42ap-1f + 1.0f, middle = f * 0x1.c6b752p-5f + 0x1.ebf9bcp-3f;
  return (f2 * (f * 0x1.5bba14p-10f + 0x1.3cea88p-7f) + middle) * f2 + low;
#elif DEGREE == 5
  const Floats tail = (f * 0x1.5bba14p-10f + 0x1.3cea88p-7f) * f + 0x1.c6b752p-5f;
  return ((tail * f + 0x1.ebf9bcp-3f) * f + 0x1.62e42ap-1f) * f + 1.0f;
#elif ESTRIN
  const Floats f2 = f * f;
  const Floats low = f * 0x1.62e430p-1f + 1.0f, middle = f * 0x1.c6aee8p-5f + 0x1.ebfbdcp-3f;
  const Floats high = f * 0x1.5f3e54p-10f + 0x1.3b2d4cp-7f;
  return ((f2 * 0x1.41fbbcp-13f + high) * f2 + middle) * f2 + low;
#else
  const Floats tail = (f * 0x1.41fbbcp-13f + 0x1.5f3e54p-10f) * f + 0x1.3b2d4cp-7f;
  return (((tail * f + 0x1.c6aee8p-5f) * f + 0x1.ebfbdcp-3f) * f + 0x1.62e430p-1f) * f + 1.0f;
#endif
}

KD_INLINE Floats fraction(Floats x, Floats n) {
#if SPLIT
  return x * 0x1.4ae0cp-26f + (x * 0x1.715476p0f - n);
#else
  return x * 0x1.715476p0f - n;
#endif
}

// 1 + exp(x); infinite where exp(x) exceeds the range, and for NaN.
KD_INLINE Floats one_plus_exp(Floats x) {
  x = least(x, all(89.0f));
  x = x > all(-80.0f) ? x : all(-80.0f);
#if SCALEF && defined(__AVX512F__) && VEC == 64
  const Floats t = x * 0x1.715476p0f;
  const Floats n = __builtin_ia32_rndscaleps_mask(t, 0, t, (unsigned short)-1, 4);
  const Floats p = power(fraction(x, n));
  return __builtin_ia32_scalefps512_mask(p, n, n, (unsigned short)-1, 4) + 1.0f;
#elif SCALEF && defined(__AVX512VL__) && VEC == 32
  const Floats n = __builtin_ia32_roundps256(x * 0x1.715476p0f, 0);
  return __builtin_ia32_scalefps256_mask(power(fraction(x, n)), n, n, (unsigned char)-1) + 1.0f;
#elif SCALEF && defined(__AVX512VL__) && VEC == 16
  const Floats n = __builtin_ia32_roundps(x * 0x1.715476p0f, 0);
  return __builtin_ia32_scalefps128_mask(power(fraction(x, n)), n, n, (unsigned char)-1) + 1.0f;
#else
  // Adding 1.5 2^23 - 1 leaves n - 1 in the low bits: half of 2^n is finite for every x above.
  constexpr float kShift = 0x1.8p23f - 1.0f;
  const Floats shifted = x * 0x1.715476p0f + kShift;
  const Floats p = power(fraction(x, shifted - kShift));
  return (Floats)((Uints)p + ((Uints)shifted << 23)) * 2.0f + 1.0f;
#endif
}

// 1/infinity is 0; there the Newton step would make NaN of it.
[[maybe_unused]] KD_INLINE Floats newton(Floats r, Floats divisor) {
  return r + r * least(1.0f - divisor * r, all(1.0f));
}

KD_INLINE Floats over(Floats number, Floats divisor) {
#if DIVIDE && defined(__AVX512F__) && VEC == 64
  const Floats r = __builtin_ia32_rcp14ps512_mask(divisor, divisor, (unsigned short)-1);
  return number * newton(r, divisor);
#elif DIVIDE && defined(__AVX__) && VEC == 32
  const Floats r = __builtin_ia32_rcpps256(divisor);
  return number * newton(r, divisor);
#elif DIVIDE && defined(__SSE__) && VEC == 16
  const Floats r = __builtin_ia32_rcpps(divisor);
  return number * newton(r, divisor);
#else
  return number / divisor;
#endif
}

KD_INLINE Step gated(Step gate, Step up) {
  KD_UNROLL
  for (int p = 0; p < kParts; ++p) {
    const Floats g = gate.part[p];
    up.part[p] = over(g, one_plus_exp(-g)) * up.part[p];
  }
  return up;
}

KD_INLINE void gate_some(const T* gate, const T* up, T* y, long count) {
  store_some(y, gated(load_some(gate, count), load_some(up, count)), count);
}

static void gate_span(const T* __restrict gate, const T* __restrict up, T* __restrict y, long n) {
  long j = STREAM ? head_of(y, n) : 0;
  if (j > 0) gate_some(gate, up, y, j);
  for (; j + UNROLL * kStep <= n; j += UNROLL * kStep) {
    if constexpr (PREFETCH > 0) {
      fetch_lines<UNROLL * kStepBytes>(gate + j, PREFETCH);
      fetch_lines<UNROLL * kStepBytes>(up + j, PREFETCH);
    }
    Step steps[UNROLL];
    KD_UNROLL
    for (int k = 0; k < UNROLL; ++k)
      steps[k] = gated(load(gate + j + k * kStep), load(up + j + k * kStep));
    KD_UNROLL
    for (int k = 0; k < UNROLL; ++k) put<STREAM>(y + j + k * kStep, steps[k]);
  }
  for (; j + kStep <= n; j += kStep) put<STREAM>(y + j, gated(load(gate + j), load(up + j)));
  if (j < n) gate_some(gate + j, up + j, y + j, n - j);
}

extern "C" void mlx_kd_swiglu(const void* const* inputs, void* const* outputs, const long* dims,
                              const double*, long begin, long end) {
  const long from = begin * kUnit, to = end * kUnit < dims[2] ? end * kUnit : dims[2];
  if (from < to)
    gate_span((const T*)inputs[0] + from, (const T*)inputs[1] + from, (T*)outputs[0] + from,
              to - from);
  finish_streams();
}
