// matmul: y = act(alpha op(a) op(b) + beta c + bias), where one operand is small: few rows of
// op(a), or few columns of op(b). The other one, which is read once and not packed, is the stream.
//
// Stage mlx_kd_matmul_streams: a unit is a row of op(a), or a column of op(b), of the small
// operand, which is put into scratch as words of K (words.cpu.h). Stage mlx_kd_matmul_streams_rows:
// a unit is CHUNK rows of the stream. Where its elements of K are neighbours, STREAMS of its rows,
// which are far apart, are multiplied by all of the small operand, BLOCK_K steps at a time; else
// its elements along y are neighbours, and GROUP steps of K at a time are added to sums of CHUNK of
// them.
#include "../rows/knobs.cpu.h"
#ifndef CHUNK
#define CHUNK 256  // rows of the stream of a unit: a multiple of 64
#endif
#ifndef STREAMS
#define STREAMS 2  // rows of the stream that are read together
#endif
#ifndef BLOCK_K
#define BLOCK_K 512  // steps of K of these rows that stay in the first cache
#endif
#ifndef GROUP
#define GROUP 8  // steps of K that are added together
#endif

#include "call.cpu.h"

constexpr long kFew = 16;  // rows of the small operand whose sums are kept at once

// Both operands of one product: y's rows are the stream's where `is_across`.
struct Streamed {
  Operand stream, few;
  bool is_across;
};
KD_INLINE bool streams_a(const kd_arguments* a) {
  return a->dims[KD_DIM_M] > a->dims[KD_DIM_N];
}
KD_INLINE Streamed streamed_of(const kd_arguments* a, long item) {
  const Operand left = operand_a(a, item), right = operand_b(a, item);
  return streams_a(a) ? Streamed{left, right, true} : Streamed{right, left, false};
}

// Whole vectors and whole groups.
KD_INLINE long padded_steps(long k) {
  constexpr long width = kLanes > GROUP ? kLanes : GROUP;
  return panels_of(steps_of(k), width) * width;
}
// Where word `step` of row i of the small operand is: rows one after the other, or steps.
KD_INLINE long place_of(bool in_rows, long i, long step, long count, long steps) {
  return in_rows ? i * steps + step : step * count + i;
}

extern "C" void mlx_kd_matmul_streams(const kd_arguments* a, long begin, long end) {
  const Sizes size = sizes_of(a);
  const long steps = padded_steps(size.k);
  for (long unit = begin; unit < end; ++unit) {
    const Streamed all = streamed_of(a, unit / least(size.m, size.n));
    const long i = unit % all.few.count;
    const T* const from = all.few.base + i * all.few.across;
    float* const to = (float*)a->scratch[0] + unit / all.few.count * all.few.count * steps;
    for (long step = 0; step < steps; step += kLanes) {
      T row[kLanes * kPerStep] = {};
      for (long j = 0; j < kLanes * kPerStep && step * kPerStep + j < size.k; ++j)
        row[j] = from[(step * kPerStep + j) * all.few.along];
      const Floats words = words_of(row, kLanes * kPerStep);
      for (long j = 0; j < kLanes; ++j)
        to[place_of(all.stream.along == 1, i, step + j, all.few.count, steps)] = words[j];
    }
  }
}

KD_INLINE Floats added(Floats sum, Floats x, Floats w) {
#if KD_PAIRS
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x));
  return sum;
#else
  return sum + x * w;
#endif
}

// kLanes values of y: of the stream's rows from `row` on, and row i of the small operand.
KD_INLINE void put(const Finish& finish, bool is_across, long i, long row, long count,
                   Floats sums) {
  if (!is_across) return finish.put(i, row, count, sums);
  for (long j = 0; j < count; ++j) finish.put(row + j, i, 1, Floats{} + sums[j]);
}

// Steps [from, to) of STREAMS rows of the stream times kM rows of the small operand.
template <int kM>
KD_INLINE void add_steps(const T* const (&rows)[STREAMS], const float* few, long steps, long from,
                         long to, Floats (*held)[STREAMS]) {
  Floats sums[kM][STREAMS];
  KD_UNROLL
  for (int i = 0; i < kM; ++i) {
    KD_UNROLL
    for (int s = 0; s < STREAMS; ++s) sums[i][s] = held[i][s];
  }
  KD_TURNS
  for (long step = from; step < to; step += kLanes) {
    Floats words[STREAMS];
    KD_UNROLL
    for (int s = 0; s < STREAMS; ++s) {
      if (PREFETCH > 0) __builtin_prefetch((const char*)(rows[s] + step * kPerStep) + PREFETCH);
      words[s] = words_of(rows[s] + step * kPerStep, kLanes * kPerStep);
    }
    KD_UNROLL
    for (int i = 0; i < kM; ++i) {
      const Floats x = take<Floats>(few + i * steps + step);
      KD_UNROLL
      for (int s = 0; s < STREAMS; ++s) sums[i][s] = added(sums[i][s], x, words[s]);
    }
  }
  KD_UNROLL
  for (int i = 0; i < kM; ++i) {
    KD_UNROLL
    for (int s = 0; s < STREAMS; ++s) held[i][s] = sums[i][s];
  }
}

// made (count, STREAMS): rows of the stream times `count` rows of the small operand.
static void multiply_rows(const T* const (&rows)[STREAMS], const float* few, long count, long k,
                          float* made) {
  constexpr long kSums = kFew * STREAMS, kVectors = panels_of(kSums, kLanes) * kLanes;
  Floats all[kVectors] = {};
  Floats(*const held)[STREAMS] = (Floats(*)[STREAMS])all;
  const long steps = padded_steps(k), whole = k / (kLanes * kPerStep) * kLanes;
  for (long from = 0; from < whole; from += BLOCK_K) {
    const long to = least(whole, from + BLOCK_K);
    long i = 0;
    for (; i + 6 <= count; i += 6) add_steps<6>(rows, few + i * steps, steps, from, to, held + i);
    for (; i + 4 <= count; i += 4) add_steps<4>(rows, few + i * steps, steps, from, to, held + i);
    for (; i + 2 <= count; i += 2) add_steps<2>(rows, few + i * steps, steps, from, to, held + i);
    if (i < count) add_steps<1>(rows, few + i * steps, steps, from, to, held + i);
  }
  for (int s = 0; s < STREAMS && whole * kPerStep < k; ++s) {
    const Floats words = words_of(rows[s] + whole * kPerStep, k - whole * kPerStep);
    for (long i = 0; i < count; ++i)
      held[i][s] = added(held[i][s], take<Floats>(few + i * steps + whole), words);
  }
  for (long first = 0; first < count * STREAMS; first += kLanes) {
    transpose(all + first);
    Floats sums = all[first];
    for (long lane = 1; lane < kLanes; ++lane) sums += all[first + lane];
    __builtin_memcpy(made + first, &sums, sizeof sums);
  }
}

// Rows [begin, end) of the stream in STREAMS parts that are read side by side, times rows [i, i +
// count) of the small operand.
static void put_rows(const Streamed& all, const float* few, long k, long i, long count, long begin,
                     long end, const Finish& finish) {
  const long part = panels_of(end - begin, STREAMS * kLanes) * kLanes;
  for (long r = 0; r < part; r += kLanes) {
    float made[kLanes][panels_of(kFew * STREAMS, kLanes) * kLanes];
    for (long lane = 0; lane < kLanes; ++lane) {
      const T* rows[STREAMS];
      for (long s = 0; s < STREAMS; ++s)
        rows[s] = all.stream.base + least(begin + s * part + r + lane, end - 1) * all.stream.across;
      multiply_rows(rows, few + i * padded_steps(k), count, k, made[lane]);
    }
    for (long s = 0; s < STREAMS; ++s) {
      const long row = begin + s * part + r;
      const long rows = least(kLanes, least(end, begin + (s + 1) * part) - row);
      for (long j = 0; j < count && rows > 0; ++j) {
        Floats sums = {};
        for (long lane = 0; lane < kLanes; ++lane) sums[lane] = made[lane][j * STREAMS + s];
        put(finish, all.is_across, i + j, row, rows, sums);
      }
    }
  }
}

// GROUP steps of `columns` places of the stream from `begin` on, times `count` rows of the small
// operand, which has `all` of them, added to (count, CHUNK) sums.
static void add_group(const Operand& stream, const float* few, long count, long all, long begin,
                      long columns, long step, long k, Floats* sums) {
  const T* const from = stream.base + begin + step * kPerStep * stream.along;
  const long left = k - step * kPerStep;
  for (long c = 0; c < columns; c += kLanes) {
    Floats words[GROUP];
    KD_UNROLL
    for (int g = 0; g < GROUP; ++g) {
      const T* const row = from + g * kPerStep * stream.along + c;
      if (PREFETCH > 0) __builtin_prefetch(row + GROUP * kPerStep * stream.along);
      words[g] = g * kPerStep >= left
                     ? Floats{}
                     : words_across(row, g * kPerStep + 1 < left ? row + stream.along : nullptr,
                                    columns - c);
    }
    for (long i = 0; i < count; ++i) {
      Floats sum = sums[i * (CHUNK / kLanes) + c / kLanes];
      KD_UNROLL
      for (int g = 0; g < GROUP; ++g)
        sum = added(sum, Floats{} + few[(step + g) * all + i], words[g]);
      sums[i * (CHUNK / kLanes) + c / kLanes] = sum;
    }
  }
}

static void put_chunk(const Streamed& all, const float* few, long k, long i, long count, long begin,
                      long end, const Finish& finish) {
  Floats sums[kFew * (CHUNK / kLanes)] = {};
  for (long step = 0; step < steps_of(k); step += GROUP)
    add_group(all.stream, few + i, count, all.few.count, begin, end - begin, step, k, sums);
  for (long row = begin; row < end; row += kLanes)
    for (long j = 0; j < count; ++j)
      put(finish, all.is_across, i + j, row, least(kLanes, end - row),
          sums[j * (CHUNK / kLanes) + (row - begin) / kLanes]);
}

extern "C" void mlx_kd_matmul_streams_rows(const kd_arguments* a, long begin, long end) {
  const Sizes size = sizes_of(a);
  const long chunks = panels_of(streams_a(a) ? size.m : size.n, CHUNK);
  for (long unit = begin; unit < end; ++unit) {
    const long item = unit / chunks;
    const Streamed all = streamed_of(a, item);
    const Finish finish = finish_of(a, item);
    const float* const few =
        (const float*)a->scratch[0] + item * all.few.count * padded_steps(size.k);
    const long from = unit % chunks * CHUNK, to = least(from + CHUNK, all.stream.count);
    for (long i = 0; i < all.few.count; i += kFew) {
      const long count = least(kFew, all.few.count - i);
      if (all.stream.along == 1)
        put_rows(all, few, size.k, i, count, from, to, finish);
      else
        put_chunk(all, few, size.k, i, count, from, to, finish);
    }
  }
}
