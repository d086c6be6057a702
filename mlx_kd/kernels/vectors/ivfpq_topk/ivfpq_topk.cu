// clang-format off
// ivfpq_topk: the k nearest vectors, kept as codes, to each query in the lists that it probes.
//
// Inputs queries (M, D); codes (N, S) bytes; codebooks (S, D / S, 256), float32, the 256 parts of a code side by side;
// centroids (L, D); probes (M, P) int64, lists or -1; offsets (L + 1) int64, where the lists begin in codes; labels (N)
// int64. Outputs distances (M, k), ids (M, k).
//
// Stages as of ivf_topk. An item is a query and a list: a block makes the table (S, 256) of what each code adds to a key,
// in shared memory; then its warps look up the codes of 256 vectors each. Tables are computed at each probe and not kept.
//
// Dynamic shared memory of `items`: the table; q - c, or q where products are searched; of each part the largest square
// of a code's.
#undef KD_DTYPE
#define KD_DTYPE 0
#ifndef RESIDENT
#define RESIDENT 6  // blocks of items that a multiprocessor has registers for
#endif
#ifndef KD_DIM_M
#define KD_DIM_M 0
#define KD_DIM_N 1
#define KD_DIM_D 2
#define KD_DIM_S 3
#define KD_DIM_P 4
#define KD_DIM_L 5
#define KD_DIM_k 6
#define KD_DIM_inner 7
#endif

#include "../codes.cu.h"

#define ITEM_QUERIES 1
#define PROBES 4
constexpr int kThreads = 128, kEach = 8, kRowsOfWarp = 32 * kEach;

// All of a list, but of very long ones.
static __device__ int item_rows(const kd_arguments&) {
  return 1 << 14;
}

static __device__ Search search_of(const kd_arguments& a) {
  return {(const float*)a.inputs[0], (const unsigned char*)a.inputs[1], (const float*)a.inputs[2],
          (const float*)a.inputs[3], (const long*)a.inputs[PROBES + 1], a.dims[KD_DIM_N],
          a.dims[KD_DIM_L],          (int)a.dims[KD_DIM_D],             (int)a.dims[KD_DIM_S],
          (unsigned)a.dims[KD_DIM_k], a.dims[KD_DIM_inner] != 0};
}

#include "../lists.cu.h"

struct Tables {
  float *sums, *rest;
  unsigned* squares;  // as floats: never negative, NaN above all

  __device__ Tables(const Search& search, unsigned char* memory)
      : sums((float*)memory), rest(sums + search.parts * kCodes), squares((unsigned*)(rest + search.width)) {}
};

// The sum of all threads.
static __device__ float sum_of_block(float x) {
  __shared__ float of_warps[kThreads / 32];
  for (int other = 16; other > 0; other /= 2) x += __shfl_xor_sync(kAll, x, other);
  __syncthreads();
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = x;
  __syncthreads();
  x = 0;
#pragma unroll
  for (int i = 0; i < kThreads / 32; ++i) x += of_warps[i];
  return x;
}

// What a key of a table may be off by: `share` of itself, and `least`; NaN where squares are.
struct Slack {
  float base, share, least;  // base: added to every key
  __device__ float operator()(float key) const { return fmaf(share, key, least); }
};

// Sums of at most width / parts, and then parts numbers in float32.
static __device__ Slack make_table(const Search& search, const Tables& tables, const float* q, const float* centroid) {
  const int each = search.width / search.parts;
  float squares = 0, product = 0;
  for (int j = threadIdx.x; j < search.width; j += kThreads) {
    const float x = q[j], c = centroid[j], rest = search.inner ? x : x - c;
    tables.rest[j] = rest;
    squares = fmaf(rest, rest, squares), product = fmaf(-x, c, product);
    if (search.inner) squares = fmaf(c, c, squares);
  }
  for (int s = threadIdx.x; s < search.parts; s += kThreads) tables.squares[s] = 0;
  squares = sum_of_block(squares), product = sum_of_block(product);
  for (int at = threadIdx.x; at < search.parts * kCodes; at += kThreads) {  // a warp has codes of one part
    const int part = at / kCodes;
    const float *book = search.books + (long)part * each * kCodes + at % kCodes, *rest = tables.rest + part * each;
    float sum = 0, square = 0;
#pragma unroll 8
    for (int j = 0; j < each; ++j) {
      const float y = __ldg(book + j * kCodes), apart = rest[j] - y;
      sum = search.inner ? fmaf(-rest[j], y, sum) : fmaf(apart, apart, sum);
      square = fmaf(y, y, square);
    }
    tables.sums[at] = sum;
    const unsigned most = __reduce_max_sync(kAll, __float_as_uint(square));
    if (threadIdx.x % 32 == 0) atomicMax(tables.squares + part, most);
  }
  __syncthreads();
  float of_codes = 0;
  for (int s = 0; s < search.parts; ++s) of_codes += __uint_as_float(tables.squares[s]);
  const float share = float(each + search.parts + 24) * 0x1p-23f;
  if (search.inner) return {product, 0.0f, share * (squares + of_codes)};
  return {0.0f, share, 0x1p-22f * squares};
}

static __device__ float looked_up(const Search& search, const Tables& tables, long row, float base) {
  const unsigned char* codes = search.codes + row * search.parts;
  float sums[4] = {base, 0, 0, 0};
  int s = 0;
  if (search.parts % 16 == 0) {
    for (; s < search.parts; s += 16) {
      const uint4 some = __ldg((const uint4*)(codes + s));
      const unsigned words[4] = {some.x, some.y, some.z, some.w};
#pragma unroll
      for (int i = 0; i < 16; ++i) sums[i % 4] += tables.sums[(s + i) * kCodes + (words[i / 4] >> (i % 4 * 8) & 255)];
    }
  } else {
    for (; s < search.parts; ++s) sums[s % 4] += tables.sums[s * kCodes + codes[s]];
  }
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

static __device__ void look_at_pairs(const kd_arguments& a) {
  extern __shared__ __align__(16) unsigned char memory[];
  const Lists lists(a);
  const Search search = search_of(a);
  const Tables tables(search, memory);
  const unsigned count = lists.first_item[lists.count];
  for (unsigned index = blockIdx.x; index < count; index += gridDim.x) {
    const Item item = item_at(lists, lists.first_item, index);
    const unsigned query = item.queries[0];
    __syncthreads();
    const Slack slack = make_table(search, tables, search.query(query), search.centroids + item.list * search.width);
    for (long first = item.from + threadIdx.x / 32 * kRowsOfWarp; first < item.to; first += kThreads / 32 * kRowsOfWarp) {
      float keys[kEach];
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        const long row = first + 32 * i + threadIdx.x % 32;
        keys[i] = row < item.to ? looked_up(search, tables, row, slack.base) : KD_INFINITE;
      }
      keep_near(a, search, query, keys, first, (int)min(item.to - first, (long)kRowsOfWarp), slack);
    }
  }
}

extern "C" __global__ void __launch_bounds__(kThreads, RESIDENT) mlx_kd_ivfpq_topk_items(const __grid_constant__ kd_arguments a) {
  look_at_pairs(a);
}

KD_LIST_KERNELS(mlx_kd_ivfpq_topk)
