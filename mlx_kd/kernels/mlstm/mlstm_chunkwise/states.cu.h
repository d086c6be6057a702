// clang-format off
// The memory and n before each chunk, and the state after the last.
#pragma once
constexpr int kSideLine = kSide + 32 / (int)sizeof(T);

struct StateShelf {
  alignas(16) T k[2][kSlice][kSideLine];
  alignas(16) T v[2][kSlice][kSideLine];
  float weights[2][kSlice];
};

// Where a group is.
struct Tile {
  long head;
  int row0, column0, rows, columns, slices;  // slices of a chunk
};
static __device__ Tile tile_of(const Sizes& z) {
  const int across = (z.DHHV + kSide - 1) / kSide;
  const int row0 = blockIdx.y / across * kSide, column0 = blockIdx.y % across * kSide;
  return {blockIdx.x, row0, column0, min(kSide, z.DHQK - row0), min(kSide, z.DHHV - column0), (z.chunk + kSlice - 1) / kSlice};
}

// How much of the memory before a chunk is in that after it.
static __device__ float past_of(const kd_arguments& a, const Sizes& z, const Tile& tile, int chunk) {
  return gates_of(a, tile.head * z.S + min((chunk + 1) * z.chunk, z.S) - 1)->past;
}

// Slice `at` of all, into one half of the shelf.
static __device__ void request_slice(const kd_arguments& a, const Sizes& z, const Tile& tile, int at, StateShelf& s) {
  const int chunk = at / tile.slices, s0 = at % tile.slices * kSlice, half = at % 2;
  const int left = max(min(z.chunk, z.S - chunk * z.chunk) - s0, 0);
  const long token = tile.head * z.S + (long)chunk * z.chunk + s0;
  request<kThreads, kSlice, kSide, kSideLine>(&s.k[half][0][0], Source<T>{(const T*)a.inputs[1] + token * z.DHQK + tile.row0, z.DHQK, left, tile.rows});
  request<kThreads, kSlice, kSide, kSideLine>(&s.v[half][0][0], Source<T>{(const T*)a.inputs[2] + token * z.DHHV + tile.column0, z.DHHV, left, tile.columns});
  if (threadIdx.x < kSlice) {
    const bool is_there = threadIdx.x < left;
    request_one(&s.weights[half][threadIdx.x], weights_of(a, z, token) + (is_there ? threadIdx.x : 0), is_there);
  }
  close_requests();
}

static __device__ void add_slice(Sums (&sums)[2][4], const StateShelf& s, int half, int row, int column) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int at = 0; at < kSlice; at += 8) {
    const float w = s.weights[half][at + t], w4 = s.weights[half][at + t + 4];
    const T *const k = &s.k[half][at + t][row + g], *const k4 = k + 4 * kSideLine;
    const T *const v = &s.v[half][at + t][column + g], *const v4 = v + 4 * kSideLine;
    Lefts a[2];
#pragma unroll
    for (int i = 0; i < 2; ++i)
      a[i] = lefts_of(scaled(w, widen(k[16 * i])), scaled(w, widen(k[16 * i + 8])), scaled(w4, widen(k4[16 * i])), scaled(w4, widen(k4[16 * i + 8])));
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const Rights b = rights_of(w == 0.0f ? 0.0f : widen(v[8 * j]), w4 == 0.0f ? 0.0f : widen(v4[8 * j]));
      multiply<false, kIsExact>(sums[0][j], a[0], b);
      multiply<false, kIsExact>(sums[1][j], a[1], b);
    }
  }
}

// visit(row, column, sum): the thread's part of the memory.
template <class Visit>
static __device__ void each_sum(Sums (&sums)[2][4], int row, int column, Visit visit) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        visit(row + 16 * i + g + e / 2 * 8, column + 8 * j + 2 * t + e % 2, sums[i][j].at[e]);
}

// `keeps_last`: the state after the last chunk goes to outputs 1 and 2.
template <bool keeps_last>
static __device__ void find_states(const kd_arguments& a) {
  __shared__ StateShelf shelf;
  const Sizes z = sizes_of(a);
  const Tile tile = tile_of(z);
  const int warp = threadIdx.x / 32, row = warp / 2 * 32, column = warp % 2 * 32, all = z.chunks * tile.slices;
  const bool has_n = tile.column0 == 0 && threadIdx.x < tile.rows;
  const int own = tile.row0 + threadIdx.x;
  const auto place = [&](int r, int c) { return (long)(tile.row0 + r) * z.DHHV + tile.column0 + c; };
  const auto is_there = [&](int r, int c) { return r < tile.rows && c < tile.columns; };
  const float* const c0 = (const float*)a.inputs[5] + tile.head * z.DHQK * z.DHHV;
  Sums sums[2][4] = {};
  float n = 0.0f;
  float past = past_of(a, z, tile, 0);
  request_slice(a, z, tile, 0, shelf);
  if (z.has_state) {
    each_sum(sums, row, column, [&](int r, int c, float& sum) { sum = is_there(r, c) ? c0[place(r, c)] : 0.0f; });
    if (has_n) n = ((const float*)a.inputs[6])[tile.head * z.DHQK + own];
  }
  for (int at = 0; at < all; ++at) {
    if (at % tile.slices == 0) {
      const int chunk = at / tile.slices;
      float* const before = memory_of(a, z, tile.head, chunk);
      each_sum(sums, row, column, [&](int r, int c, float& sum) { if (is_there(r, c)) before[place(r, c)] = sum; });
      if (has_n) n_of(a, z, tile.head, chunk)[own] = n;
      each_sum(sums, row, column, [&](int, int, float& sum) { sum = scaled(past, sum); });
      n = scaled(past, n);
      past = past_of(a, z, tile, min(chunk + 1, z.chunks - 1));
    }
    wait_for_requests<0>();
    __syncthreads();  // the slice is there, and the one before it was read
    if (at + 1 < all) request_slice(a, z, tile, at + 1, shelf);
    add_slice(sums, shelf, at % 2, row, column);
    if (has_n)
#pragma unroll 8
      for (int s = 0; s < kSlice; ++s) n += scaled(shelf.weights[at % 2][s], widen(shelf.k[at % 2][s][threadIdx.x]));
  }
  if (!keeps_last) return;
  const float by = 1.0f + rests_of(a, z)[tile.head];  // the last state belongs to m as it is stored
  float* const c = (float*)a.outputs[1] + tile.head * z.DHQK * z.DHHV;
  each_sum(sums, row, column, [&](int r, int e, float& sum) { if (is_there(r, e)) c[place(r, e)] = by * sum; });
  if (has_n) ((float*)a.outputs[2])[tile.head * z.DHQK + own] = by * n;
}
