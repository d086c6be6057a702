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

#include "../../common/steps.cpu.h"
#include "../rows.cpu.h"

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
