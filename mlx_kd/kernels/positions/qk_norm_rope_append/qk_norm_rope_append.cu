// clang-format off
// Heads of queries and keys, each normed by its weight if there is one, then rotated by its position;
// keys go into a cache, in place, as do values.
//
// A warp takes one of the B (Hq + 2 Hk) M rows, the queries first, then the keys. A batch row whose rows do
// not fit into the cache is not written there. Rates of rotation are computed, and the weights of norms requested,
// before the rows are waited for.
//
// Grid: blocks of WARPS warps for all rows.
#ifndef WARPS
#define WARPS 4  // of a block
#endif
#ifndef KD_DIM_S
#define KD_DIM_S 0
#define KD_DIM_B 1
#define KD_DIM_Hq 2
#define KD_DIM_Hk 3
#define KD_DIM_M 4
#define KD_DIM_D 5
#define KD_DIM_Dv 6
#define KD_DIM_dims 7
#define KD_DIM_traditional 8
#define KD_DIM_ragged 9
#define KD_DIM_has_freqs 10
#define KD_DIM_has_wq 11
#define KD_DIM_has_wk 12
#define KD_SCALAR_eps 0
#define KD_SCALAR_base 1
#define KD_SCALAR_scale 2
#endif

#include "../../common/early.cu.h"
#include "../../common/kd_arguments.h"
#include "../../common/numbers.cu.h"

enum { kQuery = 2, kKey, kValue, kOffset, kQueryWeight, kKeyWeight, kFreqs };  // inputs
enum { kKeysOut, kValuesOut, kQueriesOut };
constexpr int kKept = 4;  // pairs of a lane whose rates are kept: 256 elements

// A row of that many elements comes into the first-level cache while others are waited for.
static __device__ void request(const T* row, int count, int lane) {
  constexpr int kSector = 32 / int(sizeof(T));
  for (int i = lane * kSector; i < count; i += 32 * kSector) asm volatile("prefetch.global.L1 [%0];" ::"l"(row + i));
}

static __device__ float rate_of(const kd_arguments& a, int pair, int half) {
  if (a.dims[KD_DIM_has_freqs]) return 1.0f / ((const float*)a.inputs[kFreqs])[pair];
  return exp2f(-(float(pair) / float(half)) * log2f(float(a.scalars[KD_SCALAR_base])));
}

static __device__ float over_lanes(float x) {
  for (int other = 16; other > 0; other /= 2) x += __shfl_xor_sync(0xffffffffu, x, other);
  return x;
}

// A row of the call: its kind (the input), batch row, head and position.
struct Row {
  int kind;
  long b, h, t, index;  // index: among the rows of its kind
  __device__ Row(const kd_arguments& a, long all) {
    const long queries = a.dims[KD_DIM_B] * a.dims[KD_DIM_Hq] * a.dims[KD_DIM_M];
    const long keys = a.dims[KD_DIM_B] * a.dims[KD_DIM_Hk] * a.dims[KD_DIM_M];
    kind = all < queries ? kQuery : all < queries + keys ? kKey : kValue;
    index = all - (kind == kQuery ? 0 : kind == kKey ? queries : queries + keys);
    const long heads = a.dims[kind == kQuery ? KD_DIM_Hq : KD_DIM_Hk];
    t = index % a.dims[KD_DIM_M];
    h = index / a.dims[KD_DIM_M] % heads;
    b = index / a.dims[KD_DIM_M] / heads;
  }
};

// x of a row, normed; `weight` may be null.
struct Source {
  const T *x, *weight;
  float by;
  __device__ Source(const kd_arguments& a, const T* from, const T* of, int lane) : x(from), weight(of), by(1.0f) {
    if (weight == nullptr) return;
    const int width = int(a.dims[KD_DIM_D]);
    float sum = 0.0f;
    for (int i = lane; i < width; i += 32) sum += widen(x[i]) * widen(x[i]);
    by = 1.0f / sqrtf(over_lanes(sum) / float(width) + float(a.scalars[KD_SCALAR_eps]));
  }
  __device__ float at(int i) const {
    return weight == nullptr ? widen(x[i]) : widen(x[i]) * by * widen(weight[i]);
  }
};

static __device__ void turn_pair(const Source& from, T* to, int pair, int half, bool interleaved, float angle) {
  const int first = interleaved ? 2 * pair : pair, second = interleaved ? first + 1 : pair + half;
  const float x = from.at(first), y = from.at(second), c = cosf(angle), s = sinf(angle);
  to[first] = narrow(x * c - y * s);
  to[second] = narrow(x * s + y * c);
}

extern "C" __global__ void __launch_bounds__(32 * WARPS)
    mlx_kd_qk_norm_rope_append(const __grid_constant__ kd_arguments a) {
  const int lane = threadIdx.x % 32, half = int(a.dims[KD_DIM_dims]) / 2, width = int(a.dims[KD_DIM_D]);
  const long all = blockIdx.x * (long)WARPS + threadIdx.x / 32;
  const long rows = a.dims[KD_DIM_B] * (a.dims[KD_DIM_Hq] + 2 * a.dims[KD_DIM_Hk]) * a.dims[KD_DIM_M];
  const Row row(a, all);
  float rates[kKept];
#pragma unroll
  for (int n = 0; n < kKept; ++n) rates[n] = lane + 32 * n < half ? rate_of(a, lane + 32 * n, half) : 0.0f;
  const bool is_query = row.kind == kQuery;
  const bool normed = row.kind != kValue && a.dims[is_query ? KD_DIM_has_wq : KD_DIM_has_wk];
  const T* const weight = normed ? (const T*)a.inputs[is_query ? kQueryWeight : kKeyWeight] : nullptr;
  if (normed) request(weight, width, lane);
  wait_for_others();
  if (all >= rows) return;
  const long s = a.dims[KD_DIM_S], m = a.dims[KD_DIM_M];
  const long(&strides)[4] = a.strides[row.kind];
  const T* from = (const T*)a.inputs[row.kind] + row.b * strides[0] + row.h * strides[1] + row.t * strides[2];
  request(from, row.kind == kValue ? int(a.dims[KD_DIM_Dv]) : width, lane);
  const long first = ((const int*)a.inputs[kOffset])[a.dims[KD_DIM_ragged] ? row.b : 0];
  if (!is_query && (first < 0 || first > s - m)) return;
  const long place = is_query ? row.index : row.index / m * s + first + row.t;  // a row of the output
  if (row.kind == kValue) {
    const int value_width = int(a.dims[KD_DIM_Dv]);
    T* to = (T*)a.outputs[kValuesOut] + place * value_width;
    for (int i = lane; i < value_width; i += 32) to[i] = from[i];
    return;
  }
  const bool interleaved = a.dims[KD_DIM_traditional];
  const Source source(a, from, weight, lane);
  T* to = (T*)a.outputs[is_query ? kQueriesOut : kKeysOut] + place * width;
  const float position = float(first + row.t) * float(a.scalars[KD_SCALAR_scale]);
#pragma unroll
  for (int n = 0; n < kKept; ++n)
    if (lane + 32 * n < half) turn_pair(source, to, lane + 32 * n, half, interleaved, position * rates[n]);
  for (int pair = lane + 32 * kKept; pair < half; pair += 32)
    turn_pair(source, to, pair, half, interleaved, position * rate_of(a, pair, half));
  for (int i = 2 * half + lane; i < width; i += 32) to[i] = narrow(source.at(i));
}
