// Heaps of the k best keys and their rows, the worst on top, and the distances of a query and a
// row.
//
// A key is a squared L2 distance or minus an inner product: the least is the best, and among equal
// ones the lowest row. NaN and infinite keys are never taken.
#pragma once
#include "../common/kd_arguments.h"
#include "../common/steps.cpu.h"

constexpr long kLanes = VEC / long(sizeof(float));
constexpr unsigned kNone = 0xffffffffu;  // the row of an entry that is not taken
constexpr float kInfinity = __builtin_inff();

KD_INLINE bool is_worse(float key, unsigned row, float than, unsigned than_row) {
  return key > than || (key == than && row > than_row);
}

// Puts (key, row) at `at` or below, where children of i are 2 i + 1 and 2 i + 2.
static void sift(float* keys, unsigned* rows, long k, long at, float key, unsigned row) {
  for (long child = 2 * at + 1; child < k; child = 2 * at + 1) {
    if (child + 1 < k && is_worse(keys[child + 1], rows[child + 1], keys[child], rows[child]))
      ++child;
    if (!is_worse(keys[child], rows[child], key, row)) break;
    keys[at] = keys[child], rows[at] = rows[child];
    at = child;
  }
  keys[at] = key, rows[at] = row;
}

KD_INLINE void make_empty(float* keys, unsigned* rows, long k) {
  for (long i = 0; i < k; ++i) keys[i] = kInfinity, rows[i] = kNone;
}

KD_INLINE float sum_of(Floats x) {
#if VEC == 64
  typedef float Half __attribute__((vector_size(32)));
  const Half half = __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7) +
                    __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15);
#else
  const Floats half = x;
#endif
#if VEC == 64 || VEC == 32
  typedef float Four __attribute__((vector_size(16)));
  const Four four = __builtin_shufflevector(half, half, 0, 1, 2, 3) +
                    __builtin_shufflevector(half, half, 4, 5, 6, 7);
#else
  const Floats four = half;
#endif
  return (four[0] + four[2]) + (four[1] + four[3]);
}

// Adds the terms of kLanes columns of a query and a row.
template <bool kInner>
KD_INLINE Floats more(Floats sum, Floats q, Floats x) {
  if constexpr (kInner) return sum + q * x;
  const Floats apart = q - x;
  return sum + apart * apart;
}

// |q - x|^2, or -q.x.
template <bool kInner>
static float key_of(const float* q, const float* x, long width) {
  Floats sum = {};
  long j = 0;
  for (; j + kLanes <= width; j += kLanes)
    sum = more<kInner>(sum, load(q + j).part[0], load(x + j).part[0]);
  if (j < width)
    sum =
        more<kInner>(sum, load_some(q + j, width - j).part[0], load_some(x + j, width - j).part[0]);
  return kInner ? -sum_of(sum) : sum_of(sum);
}

// Where the result of a query goes, the best first: distances, and ids of the rows, or the rows
// themselves where there are no ids.
struct Found {
  float* distances;
  long* to;
  const long* ids;
};

// The best k of `heaps` heaps that lie one behind the other go to the first.
[[maybe_unused]] static void take_best(long k, long heaps, float* keys, unsigned* rows) {
  for (long i = k; i < heaps * k; ++i)
    if (rows[i] != kNone && is_worse(keys[0], rows[0], keys[i], rows[i]))
      sift(keys, rows, k, 0, keys[i], rows[i]);
}

// The entries of a heap in order; spoils the heap.
template <bool kInner>
static void put_found(long k, float* keys, unsigned* rows, const Found& found) {
  for (long left = k; left > 0; --left) {
    const float key = keys[0];
    const unsigned row = rows[0];
    sift(keys, rows, left - 1, 0, keys[left - 1], rows[left - 1]);
    found.distances[left - 1] =
        row == kNone ? (kInner ? -__FLT_MAX__ : __FLT_MAX__) : (kInner ? -key : key);
    found.to[left - 1] = row == kNone ? -1 : found.ids ? found.ids[row] : long(row);
  }
}
