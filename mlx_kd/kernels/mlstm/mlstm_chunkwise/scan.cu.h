// clang-format off
// The memory before each chunk, or its cotangent behind each, for DHQK of at most 128: a group takes 32 columns of the
// memory of a head from chunk to chunk, in registers; a warp has 16 of its rows. Values, times their weights, are split in
// two numbers of bfloat16.
#pragma once
constexpr int kScanWide = 32, kScanLine = kScanWide + 8;

struct alignas(16) ScanShelf {
  T rows[2][kTokens][kLongLine];
  T values[2][kTokens][kScanLine];
  T high[kTokens][kScanLine], low[kTokens][kScanLine];
  float weights[kTokens], weights_of_n[kTokens];
  float parts[kWarps];
};

// The weights of a token, which a thread knows before its chunk is there.
struct Share {
  float weight, of_n;
};

// A lane's four pairs of columns of a tile are neighbours in the memory: column 8 t + 2 j + c is column 8 j + 2 t + c of the tile.
static __device__ void split_values(ScanShelf& s, int half, int wide) {
  const int row = threadIdx.x / 2, part = threadIdx.x % 2;
  const float weight = s.weights[row];
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    const unsigned both = *(const unsigned*)&s.values[half][row][16 * part + 2 * e];
    const Words words = split(scaled(weight, lower_of(both)), scaled(weight, upper_of(both)));
    const int column = e % 4 * 8 + 2 * (2 * part + e / 4);
    *(unsigned*)&s.high[row][column] = words.high;
    *(unsigned*)&s.low[row][column] = words.low;
  }
  if (weight == 0.0f && s.weights_of_n[row] == 0.0f)  // its row may not be finite
    for (int d = part; d < wide; d += 2) s.rows[half][row][d] = 0;
}

static __device__ void add_chunk(Sums (&sums)[4], Sums& of_n, const ScanShelf& s, int half, int row, int count, bool has_n) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll 2
  for (int at = 0; at < count; at += 16) {
    const Fragment left = load_across(flat_rows<kLongLine>(&s.rows[half][0][0], at, row));
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const Fragment low = load_across(deep_rows<kScanLine>(&s.low[0][0], at, 16 * j)), high = load_across(deep_rows<kScanLine>(&s.high[0][0], at, 16 * j));
      multiply_two(sums + 2 * j, left, low);
      multiply_two(sums + 2 * j, left, high);
    }
    if (!has_n) continue;
    const float* const w = &s.weights_of_n[at + 2 * t];
    const Words near = split(w[0], w[1]), far = split(w[8], w[9]);
    multiply16(of_n, left, g ? 0u : near.low, g ? 0u : far.low);
    multiply16(of_n, left, g ? 0u : near.high, g ? 0u : far.high);
  }
}

static __device__ Share share_of_state(const kd_arguments& a, const Sizes& z, long head, int chunk) {
  const int own = threadIdx.x, token = chunk * z.chunk + own;
  if (own >= z.chunk || token >= z.S) return {0.0f, 0.0f};
  const float weight = weights_of(a, z, head * z.S)[token];
  return {weight, weight};
}

// Rows of queries or keys, columns of values of a chunk.
static __device__ void request_chunk(const Sizes& z, const T* rows, const T* values, long head, int chunk, int column0, ScanShelf& s, int half) {
  const long token = head * z.S + (long)chunk * z.chunk;
  const int count = min(z.chunk, z.S - chunk * z.chunk);
  request16<kTokens, kLong, kLongLine>(&s.rows[half][0][0], Source<T>{rows + token * z.DHQK, z.DHQK, count, z.DHQK});
  request16<kTokens, kScanWide, kScanLine>(&s.values[half][0][0], Source<T>{values + token * z.DHHV + column0, z.DHHV, count, z.DHHV - column0});
  close_requests();
}

// A lane's 16 sums as two rows of eight neighbours: visit(row, eight sums).
template <class Visit>
static __device__ void each_eight(Sums (&sums)[4], int row, Visit visit) {
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    float eight[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) eight[j] = sums[j / 2].at[2 * e + j % 2];
    visit(row + 8 * e, eight);
#pragma unroll
    for (int j = 0; j < 8; ++j) sums[j / 2].at[2 * e + j % 2] = eight[j];
  }
}

static __device__ void store_planes(T* planes, long plane, const float (&eight)[8]) {
  Words words[4];
#pragma unroll
  for (int j = 0; j < 4; ++j) words[j] = split(eight[2 * j], eight[2 * j + 1]);
  *(uint4*)planes = make_uint4(words[0].high, words[1].high, words[2].high, words[3].high);
  *(uint4*)(planes + plane) = make_uint4(words[0].low, words[1].low, words[2].low, words[3].low);
}
// Where a group is, and what a lane has: rows `row`, `row` + 8 and eight columns from `column` on.
struct Scan {
  long head;
  int column0, warp_row, row, column;
  bool has_n, is_lane_of_n;
};
static __device__ Scan scan_of() {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, column0 = blockIdx.y * kScanWide;
  return {blockIdx.x, column0, 16 * warp, 16 * warp + lane / 4, column0 + lane % 4 * 8, column0 == 0, column0 == 0 && lane % 4 == 0};
}

// Up to eight floats of a row of the state, which may lie anywhere.
static __device__ void load_state(const float* from, const Sizes& z, const Scan& w, int row, float (&eight)[8]) {
#pragma unroll
  for (int j = 0; j < 8; ++j) eight[j] = row < z.DHQK && w.column + j < z.DHHV ? from[(long)row * z.DHHV + w.column + j] : 0.0f;
}
static __device__ void store_state(float* to, const Sizes& z, const Scan& w, int row, const float (&eight)[8], float by) {
#pragma unroll
  for (int j = 0; j < 8; ++j)
    if (row < z.DHQK && w.column + j < z.DHHV) to[(long)row * z.DHHV + w.column + j] = by * eight[j];
}
static __device__ float past_of_chunk(const kd_arguments& a, const Sizes& z, long head, int chunk) {
  return gates_of(a, head * z.S + min((chunk + 1) * z.chunk, z.S) - 1)->past;
}

// One chunk, whose rows and values are requested: `share` of it, then of the next, which is requested.
template <class Request, class Between>
static __device__ void pass_chunk(const Sizes& z, const Scan& w, ScanShelf& s, int half, int count, Share& share, Sums (&sums)[4], Sums& n, Request next, Between between) {
  if (threadIdx.x < kTokens) s.weights[threadIdx.x] = share.weight, s.weights_of_n[threadIdx.x] = share.of_n;
  wait_for_requests<0>();
  __syncthreads();  // the chunk is there, and the one before it was read
  share = next();
  between();
  split_values(s, half, z.DHQK);
  __syncthreads();
  if (w.warp_row < z.DHQK) add_chunk(sums, n, s, half, w.warp_row, count, w.has_n);
  __syncthreads();
}

extern __shared__ float4 shared[];

static __device__ void scan_states(const kd_arguments& a, float* c_last, float* n_last) {
  ScanShelf& s = *(ScanShelf*)shared;
  const Sizes z = sizes_of(a);
  const Scan w = scan_of();
  const T *const keys = (const T*)a.inputs[1], *const values = (const T*)a.inputs[2];
  const long plane = (long)z.DHQK * pitch_of(z);
  Sums sums[4] = {}, n = {};
  if (z.has_state) {
    each_eight(sums, w.row, [&](int row, float (&eight)[8]) { load_state((const float*)a.inputs[5] + w.head * z.DHQK * z.DHHV, z, w, row, eight); });
#pragma unroll
    for (int e = 0; e < 2; ++e)
      if (w.is_lane_of_n && w.row + 8 * e < z.DHQK) n.at[2 * e] = ((const float*)a.inputs[6])[w.head * z.DHQK + w.row + 8 * e];
  }
  Share share = share_of_state(a, z, w.head, 0);
  float past = past_of_chunk(a, z, w.head, 0);
  request_chunk(z, keys, values, w.head, 0, w.column0, s, 0);
  for (int chunk = 0; chunk < z.chunks; ++chunk) {
    const int following = min(chunk + 1, z.chunks - 1);
    float past_next;
    const auto next = [&] {
      if (chunk + 1 < z.chunks) request_chunk(z, keys, values, w.head, chunk + 1, w.column0, s, (chunk + 1) % 2);
      past_next = past_of_chunk(a, z, w.head, following);
      return share_of_state(a, z, w.head, following);
    };
    const auto between = [&] {
      T* const planes = planes_of(a, z, w.head, chunk);
      each_eight(sums, w.row, [&](int row, float (&eight)[8]) {
        if (row < z.DHQK && w.column < z.DHHV) store_planes(planes + (long)row * pitch_of(z) + w.column, plane, eight);
#pragma unroll
        for (int j = 0; j < 8; ++j) eight[j] = scaled(past, eight[j]);
      });
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        if (w.is_lane_of_n && w.row + 8 * e < z.DHQK) n_of(a, z, w.head, chunk)[w.row + 8 * e] = n.at[2 * e];
        n.at[2 * e] = scaled(past, n.at[2 * e]);
      }
    };
    pass_chunk(z, w, s, chunk % 2, min(z.chunk, z.S - chunk * z.chunk), share, sums, n, next, between);
    past = past_next;
  }
  if (!c_last) return;
  const float by = 1.0f + rests_of(a, z)[w.head];  // the last state belongs to m as it is stored
  each_eight(sums, w.row, [&](int row, float (&eight)[8]) { store_state(c_last + w.head * z.DHQK * z.DHHV, z, w, row, eight, by); });
#pragma unroll
  for (int e = 0; e < 2; ++e)
    if (w.is_lane_of_n && w.row + 8 * e < z.DHQK) n_last[w.head * z.DHQK + w.row + 8 * e] = by * n.at[2 * e];
}
