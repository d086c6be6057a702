// A block of query rows that share a key head, the sums of its parts in scratch memory, and what
// becomes of them: for both ways to go through the keys. The source defines what a row sees, as it
// is declared here.
#ifndef ROWS
#define ROWS 4
#endif
#ifndef TILE
#define TILE 64
#endif
#ifndef PREFETCH
#define PREFETCH 0
#endif
#ifndef PIECES
#define PIECES 1  // of memory that the keys of a tile are in, at most
#endif
#ifndef KD_DIM_Hq
#define KD_DIM_Hq 2
#define KD_DIM_Hk 3
#define KD_DIM_M 4
#define KD_DIM_Dk 5
#define KD_DIM_Dv 6
#define KD_DIM_bits 8
#define KD_DIM_group_size 9
#define KD_SCALAR_scale 0
#endif
#pragma once
#include "../common/kd_arguments.h"
#include "codes.cpu.h"

#if DIGITS && VEC == 64 && defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
#define KD_BYTES 1  // codes are multiplied as they are
#else
#define KD_BYTES 0
#endif

constexpr long kWidest = 1024, kMostGroups = kWidest / 32;
constexpr float kInfinity = __builtin_inff(), kLog2E = 0x1.715476p+0f;

KD_INLINE Floats power_of(Floats x) {
  const Floats least = all(-127.0f);
  const Power power = power_of_two(x < least ? least : x, 1.0f);  // a NaN stays
  return power.scale + power.scale * power.more;
}

// --- a block ---

struct Block {
  const kd_arguments* a;
  long b, key_head, group, first, rows;  // group: query heads of a key head
  Coded k, v;
};

#include "places.cpu.h"

// Keys [first, end) and, of them, those whose byte of the mask is set, if there is one.
struct Seen {
  long first, end;
  const unsigned char* mask;
};
static Seen seen_by(const Block& block, long r);
// Whether a row may not see all of the keys up to `end`.
static bool has_limits(const Block& block, long end);
// The score of a key that is not seen.
static float hidden_score();

// Rows [first, first + count) of keys and values that are in one piece of memory.
struct Piece {
  Coded k, v;
  long first, count;
};

// Keys that are worked on together, `count` from key `first_key` on. Pieces have fours of rows, but
// for the last.
struct Tile {
  Piece pieces[PIECES];
  long number;  // of pieces
  long first_key, count;
};

KD_INLINE void fetch(const void* from, long bytes) {
  for (long line = 0; line < bytes; line += 64) __builtin_prefetch((const char*)from + line);
}
static void fetch_numbers(const Coded& coded, long first, long count) {
  fetch(coded.scales + first * coded.scale_stride, count * coded.scale_stride * long(sizeof(T)));
  fetch(coded.biases + first * coded.bias_stride, count * coded.bias_stride * long(sizeof(T)));
}

static Coded coded_of(const kd_arguments* a, int port, long b, long head, long width) {
  const long *c = a->strides[port], *s = a->strides[port + 1], *o = a->strides[port + 2];
  const long group = a->dims[KD_DIM_group_size];
  return {(const unsigned char*)a->inputs[port] + 4 * (b * c[0] + head * c[1]),
          (const T*)a->inputs[port + 1] + b * s[0] + head * s[1],
          (const T*)a->inputs[port + 2] + b * o[0] + head * o[1],
          4 * c[2],
          s[2],
          o[2],
          width,
          group,
          width / group,
          width * a->dims[KD_DIM_bits] / 8};
}

static Block open_block(const kd_arguments* a, long index) {
  const long heads = a->dims[KD_DIM_Hk], group = a->dims[KD_DIM_Hq] / heads;
  const long all_rows = group * a->dims[KD_DIM_M], blocks = (all_rows + ROWS - 1) / ROWS;
  const long head = index / blocks, b = head / heads, key_head = head - b * heads;
  const long first = (index - head * blocks) * ROWS;
  const long rows = all_rows - first < ROWS ? all_rows - first : ROWS;
  return {a, b, key_head, group, first, rows, {}, {}};
}

// Keys and values that are `at` along the first axis.
static Coded keys_of(const Block& block, long at) {
  return coded_of(block.a, 1, at, block.key_head, dim(block, KD_DIM_Dk));
}
static Coded values_of(const Block& block, long at) {
  return coded_of(block.a, 4, at, block.key_head, dim(block, KD_DIM_Dv));
}
static void open_keys(Block& block, long at) {
  block.k = keys_of(block, at), block.v = values_of(block, at);
}

// --- results ---

// A row that sees no key gives zeros.
static void finish_row(const Block& block, long r, float powers, const float* sums) {
  if (powers == 0.0f) powers = 1.0f;
  const Place at = place_of(block, r);
  const long width = dim(block, KD_DIM_Dv);
  T* y = (T*)block.a->outputs[0] +
         ((block.b * dim(block, KD_DIM_Hq) + at.head) * dim(block, KD_DIM_M) + at.t) * width;
  for (long i = 0; i < width; i += kStep) {  // widths are multiples of 32
    Step step;
#if KD_DTYPE == 2
    for (int k = 0; k < kLanes; ++k)
      step.part[0][k] = sums[i + 2 * k] / powers, step.part[1][k] = sums[i + 2 * k + 1] / powers;
#else
    step.part[0] = vector_at(sums + i) / powers;
#endif
    store(y + i, step);
  }
}

struct Scratch {
  float *numbers, *sums;
};
KD_INLINE Scratch scratch_of(const kd_arguments* a, long unit) {
  return {(float*)a->scratch[0] + unit * ROWS * 2,
          (float*)a->scratch[1] + unit * ROWS * a->dims[KD_DIM_Dv]};
}

KD_INLINE void clear_sums(float* sums, long width) {
  for (long i = 0; i < ROWS * width; i += kLanes) put_at(sums + i, Floats{});
}

static void merge_row(const Block& block, long index, long r) {
  const long parts = block.a->stage, width = dim(block, KD_DIM_Dv);
  float most = -kInfinity, powers = 0;
  for (long p = 0; p < parts; ++p) {
    const float largest = scratch_of(block.a, index * parts + p).numbers[2 * r];
    most = largest > most ? largest : most;
  }
  alignas(64) float sums[kWidest];
  for (long i = 0; i < width; ++i) sums[i] = 0;
  for (long p = 0; p < parts; ++p) {
    const Scratch part = scratch_of(block.a, index * parts + p);
    const float weight = power_of(all(part.numbers[2 * r] - (most == -kInfinity ? 0.0f : most)))[0];
    powers += weight * part.numbers[2 * r + 1];
    for (long i = 0; i < width; ++i) sums[i] += weight * part.sums[r * width + i];
  }
  finish_row(block, r, powers, sums);
}
