// clang-format off
// h of the tokens of a chunk in 128 columns, for DHQK of at most 128: a warp has 16 of the tokens. The memory before the
// chunk, 64 rows at a time, then keys and values, 64 tokens at a time, pass shared memory one slice ahead.
#pragma once
constexpr int kSlice16 = 64, kColumns16 = 128;

struct alignas(16) Shelf16 {
  T q[kTokens][kLongLine];
  T pairs[2][2][kSlice16][kLongLine];  // the parts of the memory, or keys and values
  float u[kTokens], u_rest[kTokens];
};

struct Work16 {
  long head, token;
  int chunk, count, column0, columns, row, memories;  // `memories`: slices of the memory
};

static __device__ void request_pair(const kd_arguments& a, const Sizes& z, const Work16& w, int at, Shelf16& s) {
  T *const first = &s.pairs[at % 2][0][0][0], *const second = &s.pairs[at % 2][1][0][0];
  if (at < w.memories) {
    const int d0 = at * kSlice16, pitch = pitch_of(z);
    const T* const planes = planes_of(a, z, w.head, w.chunk) + (long)d0 * pitch + w.column0;
    request16<kSlice16, kColumns16, kLongLine>(first, Source<T>{planes, pitch, z.DHQK - d0, pitch - w.column0});
    request16<kSlice16, kColumns16, kLongLine>(second, Source<T>{planes + (long)z.DHQK * pitch, pitch, z.DHQK - d0, pitch - w.column0});
  } else {
    const int s0 = (at - w.memories) * kSlice16;
    request16<kSlice16, kLong, kLongLine>(first, Source<T>{(const T*)a.inputs[1] + (w.token + s0) * z.DHQK, z.DHQK, w.count - s0, z.DHQK});
    request16<kSlice16, kColumns16, kLongLine>(second, Source<T>{(const T*)a.inputs[2] + (w.token + s0) * z.DHHV + w.column0, z.DHHV, w.count - s0, w.columns});
  }
  close_requests();
}

static __device__ void read_slice(const Sizes& z, const Work16& w, const Shelf16& s, int at, Sums* h) {
  const int d0 = at * kSlice16;
  const T *const high = &s.pairs[at % 2][0][0][0], *const low = &s.pairs[at % 2][1][0][0];
#pragma unroll 1
  for (int d = 0; d < kSlice16 && d0 + d < z.DHQK; d += 16) {
    const Fragment query = load_fragment(deep_rows<kLongLine>(&s.q[0][0], w.row, d0 + d));
    add_rows<kColumns16 / 16, kLongLine>(h, query, low, d);
    add_rows<kColumns16 / 16, kLongLine>(h, query, high, d);
  }
}

// What the rows of a lane read of n: each of the four lanes of a row has a fourth.
static __device__ void read_n(const kd_arguments& a, const Sizes& z, const Work16& w, const Shelf16& s, float (&sums)[2]) {
  const int g = threadIdx.x % 32 / 4;
  const float* const n = n_of(a, z, w.head, w.chunk);
#pragma unroll 4
  for (int d = threadIdx.x % 4; d < z.DHQK; d += 4)
#pragma unroll
    for (int e = 0; e < 2; ++e) sums[e] += widen(s.q[w.row + g + 8 * e][d]) * n[d];
}

// The keys of a slice, whose scores become weights; then its values.
static __device__ void add_slice16(const kd_arguments& a, const Sizes& z, const Work16& w, Shelf16& s, int at, const RowGate (&gates)[2], float by, bool one_by_one, Sums* h, float (&sums)[2]) {
  const int s0 = (at - w.memories) * kSlice16, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const T *const keys = &s.pairs[at % 2][0][0][0], *const values = &s.pairs[at % 2][1][0][0];
  if (s0 > w.row + 15) return;
  Sums scores[kSlice16 / 8] = {};
#pragma unroll 1
  for (int d = 0; d < z.DHQK; d += 16) {
    const Fragment query = load_fragment(deep_rows<kLongLine>(&s.q[0][0], w.row, d));
#pragma unroll
    for (int j = 0; j < kSlice16 / 16; ++j)
      if (s0 + 16 * j <= w.row + 15) multiply_two(scores + 2 * j, query, load_fragment(flat_rows<kLongLine>(keys, 16 * j, d)));
  }
#pragma unroll
  for (int j = 0; j < kSlice16 / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int own = s0 + 8 * j + 2 * t + e % 2, row = w.row + g + e / 2 * 8;
      const float weight = own > row || own < gates[e / 2].first ? 0.0f : fast_exp((s.u[own] - gates[e / 2].x) + (s.u_rest[own] - gates[e / 2].x_rest));
      scores[j].at[e] = weight == 0.0f ? 0.0f : weight * by * scores[j].at[e];
      sums[e / 2] += scores[j].at[e];
    }
  if (one_by_one) {
    constexpr int kWeightLine = kSlice16 + 1;
    float* const weights = (float*)&s.pairs[(at + 1) % 2][0][0][0];
    static_assert(4 * kTokens * kWeightLine <= sizeof(s.pairs) / 2);
#pragma unroll
    for (int j = 0; j < kSlice16 / 8; j += 2) put_weights<kWeightLine>(weights, w.row, 8 * j, scores[j], scores[j + 1]);
    Sixteen sums;  // h stays in registers
#pragma unroll
    for (int j = 0; j < kColumns16 / 8; ++j) sums.at[j] = h[j];
    add_one_by_one(sums, weights + w.row * kWeightLine, kWeightLine, min(w.count - s0, kSlice16), (const T*)a.inputs[2] + (w.token + s0) * z.DHHV + w.column0, z.DHHV, w.columns);
#pragma unroll
    for (int j = 0; j < kColumns16 / 8; ++j) h[j] = sums.at[j];
    return;
  }
#pragma unroll
  for (int j = 0; j < kSlice16 / 16; ++j)
    if (s0 + 16 * j <= w.row + 15) add_rows<kColumns16 / 16, kLongLine>(h, halves_of(scores[2 * j], scores[2 * j + 1]), values, 16 * j);
}

static __device__ void scale_past(const RowGate (&gates)[2], float by, Sums* h, float (&sums)[2]) {
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    const float past = by * gates[e].past;
    sums[e] = scaled(past, sums[e]);
#pragma unroll
    for (int j = 0; j < kColumns16 / 8; ++j) h[j].at[2 * e] = scaled(past, h[j].at[2 * e]), h[j].at[2 * e + 1] = scaled(past, h[j].at[2 * e + 1]);
  }
}

// h and the sums of the weights of a warp's rows.
static __device__ void find_rows16(const kd_arguments& a, const Sizes& z, const Work16& w, Shelf16& s, const RowGate (&gates)[2], bool one_by_one, Sums* h, float (&sums)[2]) {
  const float by = rsqrtf((float)z.DHQK);
  const int all = w.memories + (w.count + kSlice16 - 1) / kSlice16;
  request_pair(a, z, w, 0, s);
  for (int at = 0; at < all; ++at) {
    wait_for_requests<0>();
    __syncthreads();  // the slice is there, and the one before it was read
    if (at + 1 < all && !one_by_one) request_pair(a, z, w, at + 1, s);
    if (at < w.memories) {
      read_slice(z, w, s, at, h);
      if (at + 1 == w.memories) {
        read_n(a, z, w, s, sums);
        scale_past(gates, by, h, sums);
      }
    } else {
      add_slice16(a, z, w, s, at, gates, by, one_by_one, h, sums);
    }
    if (at + 1 < all && one_by_one) {
      __syncthreads();
      request_pair(a, z, w, at + 1, s);
    }
  }
  __syncthreads();
}

static __device__ float inverse16(const kd_arguments& a, const RowGate& gate, float sum) {
  if (a.dims[KD_DIM_normalize] == 0) return 1.0f;
  const float size = fabsf(sum);
  return 1.0f / ((size > gate.floor || is_nan(size) ? size : gate.floor) + (float)a.scalars[KD_SCALAR_eps]);
}

static __device__ void find_h(const kd_arguments& a) {
  Shelf16& s = *(Shelf16*)shared;
  const Sizes z = sizes_of(a);
  Work16 w;
  w.head = blockIdx.x / z.chunks, w.chunk = blockIdx.x % z.chunks;
  w.token = w.head * z.S + (long)w.chunk * z.chunk, w.count = min(z.chunk, z.S - w.chunk * z.chunk);
  w.column0 = blockIdx.y * kColumns16, w.columns = z.DHHV - w.column0;
  w.row = threadIdx.x / 32 * 16, w.memories = (z.DHQK + kSlice16 - 1) / kSlice16;
  const int row = w.row + threadIdx.x % 32 / 4;
  const Gate* const of_tokens = gates_of(a, w.token);
  const RowGate gates[2] = {row_gate(of_tokens[min(row, w.count - 1)]), row_gate(of_tokens[min(row + 8, w.count - 1)])};
  if (threadIdx.x < kTokens) {
    const Gate* const own = of_tokens + min((int)threadIdx.x, w.count - 1);
    s.u[threadIdx.x] = own->u, s.u_rest[threadIdx.x] = own->u_rest;
  }
  request16<kTokens, kLong, kLongLine>(&s.q[0][0], Source<T>{(const T*)a.inputs[0] + w.token * z.DHQK, z.DHQK, w.count, z.DHQK});
  Sums h[kColumns16 / 8];
  float sums[2];
#pragma unroll 1
  for (int pass = 0; pass < 2; ++pass) {
#pragma unroll
    for (int j = 0; j < kColumns16 / 8; ++j) h[j] = {};
    sums[0] = sums[1] = 0.0f;
    find_rows16(a, z, w, s, gates, pass == 1, h, sums);
    if (!__syncthreads_or(!are_finite(h, kColumns16 / 8))) break;  // else perhaps from values without weight
  }
  float inverses[2];
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    float sum = sums[e];
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    inverses[e] = inverse16(a, gates[e], sum);
  }
  store_rows16<kColumns16, kLongLine>(&s.q[w.row][0], h, inverses, (T*)a.outputs[0] + (w.token + w.row) * z.DHHV + w.column0, z.DHHV, w.count - w.row, w.columns);
}
