// clang-format off
// h of 64 tokens of a chunk: a warp has 16 of them.
//
// A lane reads four neighbours at a time. Column c of the product of tile i is column 4 c + i % 4 + 32 (i / 4) of h, so
// that a lane needs four in a row of the memory and of values for four tiles. In scores the sum over d is taken in an
// order in which a lane has four in a row of queries and of keys for two steps.
#pragma once
constexpr int kLine = kDeep + 16, kValueLine = kColumns + 16 / (int)sizeof(T), kMemoryLine = kColumns + 8;

// Slices take turns in the halves: of the memory, or of keys and values.
struct Keys {
  T k[kSlice][kLine], v[kSlice][kValueLine];
};
union Half {
  float c[kSlice][kMemoryLine];
  Keys keys;
};
struct alignas(16) Shelf {
  T q[kRows][kLine];
  Half half[2];
  float u[2][kSlice], u_rest[2][kSlice];
};
extern __shared__ float4 shared[];

struct Work {
  long head, token;            // token: the first of the chunk
  int chunk, t0, count, left;  // of the chunk; from t0 on
  int column0, columns, row;   // row: the warp's first
  const T* q;
};

// What a warp has of its tokens: lanes of a row share it, in columns 2 t, 2 t + 1 of each eight.
struct Rows {
  Sums h[kColumns / 8];
  float sums[2];  // of the weights, and of what q reads of n: rows g, g + 8
};

// Of h, that is column c of tile i.
static __device__ int column_of(int i, int c) {
  return 4 * c + i % 4 + 32 * (i / 4);
}

// Tiles i to i + 3 of h: a lane's four columns of rows t and t + 4 of the right factor. Rests first, so that products
// that follow one another have different sums.
template <bool a_is_exact, bool b_is_exact>
static __device__ void add_four(Rows& rows, int i, const Lefts& a, const Four& upper, const Four& lower) {
  Rights b[4];
#pragma unroll
  for (int e = 0; e < 4; ++e) b[e] = rights_of(upper.at[e], lower.at[e]);
  if (!a_is_exact)
#pragma unroll
    for (int e = 0; e < 4; ++e) multiply(rows.h[i + e], a.rest, b[e].head);
  if (!b_is_exact)
#pragma unroll
    for (int e = 0; e < 4; ++e) multiply(rows.h[i + e], a.head, b[e].rest);
#pragma unroll
  for (int e = 0; e < 4; ++e) multiply(rows.h[i + e], a.head, b[e].head);
}

static __device__ Lefts query_of(const Shelf& s, int row, int d) {
  const T* const q = &s.q[row + threadIdx.x % 32 / 4][d + threadIdx.x % 4];
  return lefts_of(widen(q[0]), widen(q[8 * kLine]), widen(q[4]), widen(q[8 * kLine + 4]));
}

static __device__ void request_queries(const Sizes& z, const Work& w, int d0, Shelf& s) {
  request<kThreads, kRows, kDeep, kLine>(&s.q[0][0], Source<T>{w.q + d0, z.DHQK, w.left, z.DHQK - d0});
}

// h and the sums: q times the memory and n before the chunk, in slices of its rows.
static __device__ void read_memory(const kd_arguments& a, const Sizes& z, const Work& w, Shelf& s, Rows& rows) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const float *const memory = memory_of(a, z, w.head, w.chunk) + w.column0, *const n = n_of(a, z, w.head, w.chunk);
  const auto request_memory = [&](int d0) {
    request<kThreads, kSlice, kColumns, kMemoryLine>(&s.half[d0 / kSlice % 2].c[0][0], Source<float>{memory + (long)d0 * z.DHHV, z.DHHV, z.DHQK - d0, w.columns});
    close_requests();
  };
  request_memory(0);
  for (int d0 = 0; d0 < z.DHQK; d0 += kSlice) {
    if (d0 && d0 % kDeep == 0) {  // wider than the queries that are held
      __syncthreads();
      request_queries(z, w, d0, s);
      close_requests();
    }
    wait_for_requests<0>();
    __syncthreads();
    if (d0 + kSlice < z.DHQK) request_memory(d0 + kSlice);
    const auto& c = s.half[d0 / kSlice % 2].c;
#pragma unroll
    for (int d = 0; d < kSlice; d += 8) {
      const Lefts query = query_of(s, w.row, d0 % kDeep + d);
#pragma unroll
      for (int i = 0; i < kColumns / 8; i += 4)
        add_four<kIsExact, false>(rows, i, query, four_of(&c[d + t][8 * i + 4 * g]), four_of(&c[d + t + 4][8 * i + 4 * g]));
    }
#pragma unroll
    for (int d = t; d < kSlice; d += 4) {
      const float x = d0 + d < z.DHQK ? n[d0 + d] : 0.0f;
      rows.sums[0] += widen(s.q[w.row + g][d0 % kDeep + d]) * x;
      rows.sums[1] += widen(s.q[w.row + g + 8][d0 % kDeep + d]) * x;
    }
  }
}

static __device__ void request_keys(const kd_arguments& a, const Sizes& z, const Work& w, int s0, int d0, T (*to)[kLine]) {
  request<kThreads, kSlice, kDeep, kLine>(&to[0][0], Source<T>{(const T*)a.inputs[1] + (w.token + s0) * z.DHQK + d0, z.DHQK, w.count - s0, z.DHQK - d0});
}

// Keys, as far as they are held, values and gates of the slice from s0 on.
static __device__ void request_tokens(const kd_arguments& a, const Sizes& z, const Work& w, int s0, Shelf& s) {
  const int half = s0 / kSlice % 2;
  request_keys(a, z, w, s0, 0, s.half[half].keys.k);
  request<kThreads, kSlice, kColumns, kValueLine>(&s.half[half].keys.v[0][0], Source<T>{(const T*)a.inputs[2] + (w.token + s0) * z.DHHV + w.column0, z.DHHV, w.count - s0, w.columns});
  if (threadIdx.x < kSlice) {
    const Gate* const gate = gates_of(a, w.token + min(s0 + (int)threadIdx.x, w.count - 1));
    request_one(&s.u[half][threadIdx.x], &gate->u, true);
    request_one(&s.u_rest[half][threadIdx.x], &gate->u_rest, true);
  }
  close_requests();
}

// `deep` is a multiple of 16. Two steps: columns t, t + 4 are 4 t, 4 t + 1 and then 4 t + 2, 4 t + 3 of 16.
static __device__ void add_scores(const Shelf& s, const T (*k)[kLine], int row, int deep, Sums (&scores)[kSlice / 8]) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll 2
  for (int d = 0; d < deep; d += 16) {
    const Four upper = four_of(&s.q[row + g][d + 4 * t]), lower = four_of(&s.q[row + g + 8][d + 4 * t]);
    Four keys[kSlice / 8];
#pragma unroll
    for (int j = 0; j < kSlice / 8; ++j) keys[j] = four_of(&k[8 * j + g][d + 4 * t]);
#pragma unroll
    for (int e = 0; e < 4; e += 2) {
      const Lefts query = lefts_of(upper.at[e], lower.at[e], upper.at[e + 1], lower.at[e + 1]);
#pragma unroll
      for (int j = 0; j < kSlice / 8; ++j) multiply<kIsExact, kIsExact>(scores[j], query, rights_of(keys[j].at[e], keys[j].at[e + 1]));
    }
  }
}

// Heads that are wider than what is held: queries and keys come piece by piece.
static __device__ void add_wide_scores(const kd_arguments& a, const Sizes& z, const Work& w, int s0, T (*k)[kLine], Shelf& s, Sums (&scores)[kSlice / 8]) {
  for (int d0 = 0; d0 < z.DHQK; d0 += kDeep) {
    __syncthreads();
    request_queries(z, w, d0, s);
    request_keys(a, z, w, s0, d0, k);
    close_requests();
    wait_for_requests<0>();
    __syncthreads();
    add_scores(s, k, w.row, kDeep, scores);
  }
}

// As the products of add_values, one by one: what is not finite reaches no token before it.
static __device__ void add_one_by_one(const T (*v)[kValueLine], const Sums (&scores)[kSlice / 8], int before, Rows& rows) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  for (int own = 0; own < kSlice; ++own) {
    float score[2] = {};
#pragma unroll
    for (int j = 0; j < kSlice / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (j == own / 8 && e % 2 == own % 2) score[e / 2] = scores[j].at[e];
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const float weighted = __shfl_sync(0xffffffffu, score[e], 4 * g + own % 8 / 2);
      if (own > before + g + 8 * e) continue;
#pragma unroll
      for (int i = 0; i < kColumns / 8; ++i) {
        rows.h[i].at[2 * e] += weighted * widen(v[own][column_of(i, 2 * t)]);
        rows.h[i].at[2 * e + 1] += weighted * widen(v[own][column_of(i, 2 * t + 1)]);
      }
    }
  }
}

// Scores become weights, which are added up. The tokens of a lane in its scores are 2 t and 2 t + 1 of each eight.
static __device__ void weigh(const Shelf& s, int half, int t0, int s0, const Gate& upper, const Gate& lower, float by, Sums (&scores)[kSlice / 8], Rows& rows) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int j = 0; j < kSlice / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int own = 8 * j + 2 * t + e % 2, at = s0 + own, token = t0 + g + e / 2 * 8;
      const float weight = at > token ? 0.0f : weight_of(e < 2 ? upper : lower, at, s.u[half][own], s.u_rest[half][own]);
      scores[j].at[e] = weight == 0.0f ? 0.0f : weight * by * scores[j].at[e];
      rows.sums[e / 2] += scores[j].at[e];
    }
}

// Values with these weights are added to h: tokens 2 t and 2 t + 1 are columns t and t + 4 of the left factor.
static __device__ void add_values(const T (*v)[kValueLine], const Sums (&scores)[kSlice / 8], Rows& rows) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int j = 0; j < kSlice / 8; ++j) {
    const Lefts left = lefts_of(scores[j].at[0], scores[j].at[2], scores[j].at[1], scores[j].at[3]);
    const T* const at = &v[8 * j + 2 * t][4 * g];
#pragma unroll
    for (int i = 0; i < kColumns / 8; i += 4) add_four<false, kIsExact>(rows, i, left, four_of(at + 8 * i), four_of(at + 8 * i + kValueLine));
  }
}

static __device__ bool are_finite(const T (*v)[kValueLine]) {
  bool are = true;
  for (int e = threadIdx.x; e < kSlice * kColumns; e += kThreads) are = are && fabsf(widen(v[e / kColumns][e % kColumns])) < infinity();
  return __syncthreads_and(are);
}

static __device__ float inverse_of(const kd_arguments& a, const Gate& gate, float sum) {
  if (a.dims[KD_DIM_normalize] == 0) return 1.0f;
  const float size = fabsf(sum);
  return 1.0f / ((size > gate.floor || is_nan(size) ? size : gate.floor) + (float)a.scalars[KD_SCALAR_eps]);
}

static __device__ void store_rows(const kd_arguments& a, const Sizes& z, const Work& w, const Gate& upper, const Gate& lower, const Rows& rows) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    float sum = rows.sums[e];
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    const float inverse = inverse_of(a, e ? lower : upper, sum);
    const int own = w.row + g + 8 * e;
    T* const h = (T*)a.outputs[0] + (w.token + w.t0 + own) * z.DHHV + w.column0;
#pragma unroll
    for (int j = 0; j < kColumns / 8; ++j)
#pragma unroll
      for (int c = 0; c < 2; ++c)
        if (const int column = column_of(j, 2 * t + c); own < w.left && column < w.columns)
          h[column] = narrow(rows.h[j].at[2 * e + c] * inverse);
  }
}

static __device__ Work work_of(const kd_arguments& a, const Sizes& z) {
  const int blocks = (z.chunk + kRows - 1) / kRows;
  Work w;
  w.head = blockIdx.x / (blocks * z.chunks);
  w.chunk = blockIdx.x / blocks % z.chunks;
  w.t0 = blockIdx.x % blocks * kRows;
  w.count = min(z.chunk, z.S - w.chunk * z.chunk);
  w.left = w.count - w.t0;
  w.token = w.head * z.S + (long)w.chunk * z.chunk;
  w.column0 = blockIdx.y * kColumns;
  w.columns = z.DHHV - w.column0;
  w.row = threadIdx.x / 32 * 16;
  w.q = (const T*)a.inputs[0] + (w.token + w.t0) * z.DHQK;
  return w;
}

extern "C" __global__ void __launch_bounds__(kThreads) mlx_kd_mlstm_chunkwise(const __grid_constant__ kd_arguments a) {
  Shelf& s = *(Shelf*)shared;
  const Sizes z = sizes_of(a);
  const Work w = work_of(a, z);
  if (w.left <= 0) return;
  const int g = threadIdx.x % 32 / 4, end = min(w.count, w.t0 + kRows);
  const Gate* const gates = gates_of(a, w.token);
  const Gate upper = gates[min(w.t0 + w.row + g, w.count - 1)], lower = gates[min(w.t0 + w.row + g + 8, w.count - 1)];
  const bool drops = gates[end - 1].first > 0;  // tokens have no weight, besides those to come
  const float by = rsqrtf((float)z.DHQK);
  Rows rows = {};
  request_queries(z, w, 0, s);
  read_memory(a, z, w, s, rows);
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    const float past = by * (e ? lower.past : upper.past);
    rows.sums[e] = scaled(past, rows.sums[e]);
#pragma unroll
    for (int j = 0; j < kColumns / 8; ++j)
      rows.h[j].at[2 * e] = scaled(past, rows.h[j].at[2 * e]), rows.h[j].at[2 * e + 1] = scaled(past, rows.h[j].at[2 * e + 1]);
  }
  __syncthreads();
  request_tokens(a, z, w, 0, s);
  for (int s0 = 0; s0 < end; s0 += kSlice) {
    const int half = s0 / kSlice % 2;
    Keys& keys = s.half[half].keys;
    wait_for_requests<0>();
    __syncthreads();
    if (s0 + kSlice < end) request_tokens(a, z, w, s0 + kSlice, s);
    Sums scores[kSlice / 8] = {};
    if (z.DHQK <= kDeep)
      add_scores(s, keys.k, w.row, (z.DHQK + 15) / 16 * 16, scores);
    else
      add_wide_scores(a, z, w, s0, keys.k, s, scores);
    weigh(s, half, w.t0 + w.row, s0, upper, lower, by, scores, rows);
    if ((s0 + kSlice <= w.t0 && !drops) || are_finite(keys.v))
      add_values(keys.v, scores, rows);
    else
      add_one_by_one(keys.v, scores, w.t0 + w.row - s0, rows);
  }
  store_rows(a, z, w, upper, lower, rows);
}
