// rmsnorm_residual: updated = rounded(x + residual); y = rmsnorm(updated, w, eps) by rows.
//
// inputs x (rows, D), residual (rows, D), w (D); outputs y, updated (rows, D); dims rows, D; params
// eps; a unit is a row.
// Includes no header, so that it compiles in a tenth of a second.
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef VEC
#define VEC 16  // bytes of a vector of floats
#endif
#ifndef BF16
#define BF16 0  // bfloat16 is rounded by integer arithmetic (0) or by AVX512_BF16 (1)
#endif
#ifndef ACC
#define ACC 4  // steps summed independently
#endif
#ifndef UNROLL
#define UNROLL 4  // steps a turn of the scaling loop
#endif
#ifndef ROWS
#define ROWS 1  // rows that share one reading of w
#endif
#ifndef STREAM
#define STREAM 0  // bypass the caches: no output (0), y (1), y and updated (2)
#endif
#ifndef AGAIN
#define AGAIN 0  // the scaling loop reads the sums that were kept (0) or adds again (1)
#endif
#ifndef PREFETCH
#define PREFETCH 0  // bytes ahead of the summing loop
#endif
#ifndef AHEAD
#define AHEAD 0  // 1: the scaling loop fetches the rows that come next
#endif
#ifndef RSQRT
#define RSQRT 0  // 0: 1 / sqrt; 1: the processor's estimate and a Newton step
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

KD_INLINE float total(Floats sum) {
#if VEC == 64
  sum += __builtin_shufflevector(sum, sum, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
  sum += __builtin_shufflevector(sum, sum, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
  sum += __builtin_shufflevector(sum, sum, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
#elif VEC == 32
  sum += __builtin_shufflevector(sum, sum, 4, 5, 6, 7, 0, 1, 2, 3);
  sum += __builtin_shufflevector(sum, sum, 2, 3, 0, 1, 6, 7, 4, 5);
#else
  sum += __builtin_shufflevector(sum, sum, 2, 3, 0, 1);
#endif
  return sum[0] + sum[1];
}

// rsqrt(sum / d + eps). One copy for all block heights, so that a row has the same bits in each.
static __attribute__((noinline)) float scale_of(float sum, long d, float eps) {
  const float value = sum * float(1.0 / double(d)) + eps;
#if RSQRT && defined(__SSE__)
  typedef float Four __attribute__((vector_size(16)));
  const float estimate = __builtin_ia32_rsqrtss(Four{value, 0, 0, 0})[0];
  const float better = estimate * (1.5f - 0.5f * value * estimate * estimate);
  return value > 0x1.fffffep127f ? 0.0f : better;  // infinity times zero would be NaN
#else
  return 1.0f / __builtin_sqrtf(value);
#endif
}

constexpr long kScratch = 65536 / sizeof(T);  // elements

// Rows of one block. `kept` holds the sums of pass 1: `updated` itself, or a scratch row where
// `updated` is streamed (reading it back would fetch it from memory).
struct Block {
  const T* __restrict x;
  const T* __restrict residual;
  const T* __restrict w;
  T* __restrict y;
  T* __restrict updated;
  T* kept;
  long d;
};

KD_INLINE Step sum_of(Step x, Step residual) {
  KD_UNROLL
  for (int p = 0; p < kParts; ++p) x.part[p] += residual.part[p];
  return x;
}

KD_INLINE void add_squares(Floats& sum, Step step) {
  KD_UNROLL
  for (int p = 0; p < kParts; ++p) sum += product(step.part[p], step.part[p]);
}

// One step of pass 1 at element `at` of the block: adds, keeps, squares.
template <bool kAgain>
KD_INLINE void sum_step(const Block& block, long at, Floats& sum) {
  const Stored stored = narrow(sum_of(load(block.x + at), load(block.residual + at)));
  if constexpr (STREAM < 2 || !kAgain) __builtin_memcpy(block.kept + at, &stored, sizeof stored);
  add_squares(sum, widen(stored));
}

template <bool kAgain>
KD_INLINE void sum_some(const Block& block, long at, Floats& sum, long count) {
  const Step step =
      rounded(sum_of(load_some(block.x + at, count), load_some(block.residual + at, count)));
  if constexpr (STREAM < 2 || !kAgain) store_some(block.kept + at, step, count);
  add_squares(sum, step);
}

// sums[r] = sum of updated[r][j]^2; its order depends on D alone.
template <int R, bool kAgain>
KD_INLINE void sum_squares(const Block& block, float (&sums)[R]) {
  const long d = block.d;
  Floats parts[ACC][R] = {};
  long j = 0;
  for (; j + ACC * kStep <= d; j += ACC * kStep) {
    if constexpr (PREFETCH > 0) {
      KD_UNROLL
      for (int r = 0; r < R; ++r) {
        fetch_lines<ACC * kStepBytes>(block.x + r * d + j, PREFETCH);
        fetch_lines<ACC * kStepBytes>(block.residual + r * d + j, PREFETCH);
      }
    }
    KD_UNROLL
    for (int k = 0; k < ACC; ++k) {
      KD_UNROLL
      for (int r = 0; r < R; ++r) sum_step<kAgain>(block, r * d + j + k * kStep, parts[k][r]);
    }
  }
  for (; j + kStep <= d; j += kStep) {
    KD_UNROLL
    for (int r = 0; r < R; ++r) sum_step<kAgain>(block, r * d + j, parts[0][r]);
  }
  if (j < d)
    for (int r = 0; r < R; ++r) sum_some<kAgain>(block, r * d + j, parts[0][r], d - j);
  KD_UNROLL
  for (int r = 0; r < R; ++r) {
    KD_UNROLL
    for (int k = 1; k < ACC; ++k) parts[0][r] += parts[k][r];
    sums[r] = total(parts[0][r]);
  }
}

template <bool kAgain>
KD_INLINE Step updated_step(const Block& block, long at) {
  if constexpr (kAgain) return rounded(sum_of(load(block.x + at), load(block.residual + at)));
  return load(block.kept + at);
}

template <bool kAgain>
KD_INLINE Step updated_some(const Block& block, long at, long count) {
  if constexpr (kAgain)
    return rounded(sum_of(load_some(block.x + at, count), load_some(block.residual + at, count)));
  return load_some(block.kept + at, count);
}

// `updated` of one row, past the caches.
template <bool kAgain>
KD_INLINE void stream_updated(const Block& block, long row) {
  T* to = block.updated + row;
  long j = head_of(to, block.d);
  if (j > 0) store_some(to, updated_some<kAgain>(block, row, j), j);
  for (; j + kStep <= block.d; j += kStep) put<true>(to + j, updated_step<kAgain>(block, row + j));
  if (j < block.d)
    store_some(to + j, updated_some<kAgain>(block, row + j, block.d - j), block.d - j);
}

KD_INLINE Step scaled(Step x, Step w, float scale) {
  KD_UNROLL
  for (int p = 0; p < kParts; ++p) x.part[p] *= scale;
  x = rounded(x);
  KD_UNROLL
  for (int p = 0; p < kParts; ++p) x.part[p] *= w.part[p];
  return x;
}

template <int R, bool kAgain>
KD_INLINE void scale_step(const Block& block, long j, const float (&scales)[R]) {
  const Step weights = load(block.w + j);
  KD_UNROLL
  for (int r = 0; r < R; ++r) {
    const long at = r * block.d + j;
    put<(STREAM > 0)>(block.y + at, scaled(updated_step<kAgain>(block, at), weights, scales[r]));
  }
}

template <int R, bool kAgain>
KD_INLINE void scale_some(const Block& block, long j, const float (&scales)[R], long count) {
  const Step weights = load_some(block.w + j, count);
  for (int r = 0; r < R; ++r) {
    const long at = r * block.d + j;
    const Step row = updated_some<kAgain>(block, at, count);
    store_some(block.y + at, scaled(row, weights, scales[r]), count);
  }
}

template <int R, bool kAgain>
KD_INLINE void scale_rows(const Block& block, const float (&scales)[R]) {
  const long d = block.d;
  long j = STREAM ? head_of(block.y, d) : 0;
  if (j > 0) scale_some<R, kAgain>(block, 0, scales, j);
  for (; j + UNROLL * kStep <= d; j += UNROLL * kStep) {
    if constexpr (AHEAD > 0) {
      KD_UNROLL
      for (int r = R; r < 2 * R; ++r) {
        fetch_lines<UNROLL * kStepBytes>(block.x + r * d + j, 0);
        fetch_lines<UNROLL * kStepBytes>(block.residual + r * d + j, 0);
      }
    }
    KD_UNROLL
    for (int k = 0; k < UNROLL; ++k) scale_step<R, kAgain>(block, j + k * kStep, scales);
  }
  for (; j + kStep <= d; j += kStep) scale_step<R, kAgain>(block, j, scales);
  if (j < d) scale_some<R, kAgain>(block, j, scales, d - j);
}

template <int R, bool kAgain>
static __attribute__((noinline)) void norm_rows(Block block, float eps) {
  alignas(64) T scratch[STREAM < 2 || kAgain ? 1 : kScratch];
  block.kept = STREAM < 2 ? block.updated : scratch;
  float scales[R];
  sum_squares<R, kAgain>(block, scales);
  KD_UNROLL
  for (int r = 0; r < R; ++r) scales[r] = scale_of(scales[r], block.d, eps);
  if constexpr (STREAM == 2)
    for (int r = 0; r < R; ++r) stream_updated<kAgain>(block, r * block.d);
  scale_rows<R, kAgain>(block, scales);
}

template <int R>
KD_INLINE void norm_block(const Block& block, float eps) {
  if (AGAIN || (STREAM == 2 && R * block.d > kScratch))
    norm_rows<R, true>(block, eps);
  else
    norm_rows<R, false>(block, eps);
}

extern "C" void mlx_kd_rmsnorm_residual(const void* const* inputs, void* const* outputs,
                                        const long* dims, const double* params, long begin,
                                        long end) {
  const long d = dims[1];
  const float eps = float(params[0]);
  const auto block_at = [&](long row) {
    return Block{(const T*)inputs[0] + row * d,
                 (const T*)inputs[1] + row * d,
                 (const T*)inputs[2],
                 (T*)outputs[0] + row * d,
                 (T*)outputs[1] + row * d,
                 nullptr,
                 d};
  };
  // Rows streamed together must be aligned alike.
  const bool together = !STREAM || d * long(sizeof(T)) % kStepBytes == 0;
  long row = begin;
  if (ROWS > 1 && together)
    for (; row + ROWS <= end; row += ROWS) norm_block<ROWS>(block_at(row), eps);
  for (; row < end; ++row) norm_block<1>(block_at(row), eps);
  finish_streams();
}
