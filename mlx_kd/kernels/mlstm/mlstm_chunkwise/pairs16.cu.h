// clang-format off
// Products of the tokens of a chunk for the gradient, for DHQK of at most 128. Seen from queries, a warp has 16 of their
// rows; seen from keys, with all factors exchanged, 16 of theirs.
#pragma once
constexpr int kEach = 64, kEachLine = kEach + 8;  // columns of values in a slice

// Of a column token: u if it is a key, x if it is a query, of which the rest counts too.
struct alignas(16) Column {
  float x, x_rest, inverse, dr;
};

struct alignas(16) PairShelf16 {
  T own[kTokens][kLongLine], other[kTokens][kLongLine];  // queries and keys, or keys and queries
  T slices[2][4][kTokens][kEachLine];                    // dh and values, or values and dh; the parts of the memory
  Column columns[kTokens];
  float n[kTokens];
  int first[kTokens];
  float parts[kWarps][kTokens];
};
static_assert(sizeof(PairShelf16) <= 219 << 10);

// A chunk seen from a side.
struct View {
  const T *own, *other, *own_values, *other_values;  // of the chunk's first token
  const T* planes;
  Chunk c;
  int row;  // the warp's first
};
template <bool from_keys>
static __device__ View view_of(const kd_arguments& a, const Sizes& z) {
  const Chunk c = chunk_of(z, blockIdx.x / z.chunks, blockIdx.x % z.chunks);
  const auto from = [&](int input, int wide) { return (const T*)a.inputs[input] + c.token * wide; };
  const T *const q = from(kQ, z.DHQK), *const k = from(kK, z.DHQK), *const dh = from(kDh, z.DHHV), *const v = from(kV, z.DHHV);
  return {from_keys ? k : q, from_keys ? q : k, from_keys ? v : dh, from_keys ? dh : v, planes_of(a, z, c.head, c.at), c, (int)threadIdx.x / 32 * 16};
}

// Whether any of 16 columns has a weight in any of 16 rows.
template <bool from_keys>
static __device__ bool meets(int row, int column) {
  return from_keys ? column >= row : column <= row;
}

static __device__ void request_long(const Sizes& z, const View& w, PairShelf16& s) {
  request16<kTokens, kLong, kLongLine>(&s.own[0][0], Source<T>{w.own, z.DHQK, w.c.count, z.DHQK});
  request16<kTokens, kLong, kLongLine>(&s.other[0][0], Source<T>{w.other, z.DHQK, w.c.count, z.DHQK});
}
static __device__ void request_columns(const Sizes& z, const View& w, int e0, int half, PairShelf16& s) {
  T(*const to)[kTokens][kEachLine] = s.slices[half];
  const int pitch = pitch_of(z);
  request16<kTokens, kEach, kEachLine>(&to[1][0][0], Source<T>{w.other_values + e0, z.DHHV, w.c.count, z.DHHV - e0});
  request16<kTokens, kEach, kEachLine>(&to[2][0][0], Source<T>{w.planes + e0, pitch, z.DHQK, pitch - e0});
  request16<kTokens, kEach, kEachLine>(&to[3][0][0], Source<T>{w.planes + (long)z.DHQK * pitch + e0, pitch, z.DHQK, pitch - e0});
  close_requests();
}

static __device__ void request_own(const Sizes& z, const View& w, int e0, int half, PairShelf16& s) {
  request16<kTokens, kEach, kEachLine>(&s.slices[half][0][0][0], Source<T>{w.own_values + e0, z.DHHV, w.c.count, z.DHHV - e0});
  request_columns(z, w, e0, half, s);
}

// Own values times others, and times the memory.
template <bool from_keys>
static __device__ void find_products(const Sizes& z, const View& w, PairShelf16& s, Sums (&along)[16], Sums (&past)[16]) {
#pragma unroll
  for (int j = 0; j < 16; ++j) along[j] = {}, past[j] = {};
  request_own(z, w, 0, 0, s);
  for (int e0 = 0; e0 < z.DHHV; e0 += kEach) {
    wait_for_requests<0>();
    __syncthreads();  // the slice is there, and the one before it was read
    if (e0 + kEach < z.DHHV) request_own(z, w, e0 + kEach, (e0 / kEach + 1) % 2, s);
    const auto& slice = s.slices[e0 / kEach % 2];
#pragma unroll 1
    for (int e = 0; e < kEach; e += 16) {
      const Fragment left = load_fragment(deep_rows<kEachLine>(&slice[0][0][0], w.row, e));
#pragma unroll
      for (int j = 0; j < 8; ++j)
        if (meets<from_keys>(w.row, 16 * j)) multiply_two(along + 2 * j, left, load_fragment(flat_rows<kEachLine>(&slice[1][0][0], 16 * j, e)));
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        if (16 * j >= z.DHQK) continue;
        multiply_two(past + 2 * j, left, load_fragment(flat_rows<kEachLine>(&slice[3][0][0], 16 * j, e)));
        multiply_two(past + 2 * j, left, load_fragment(flat_rows<kEachLine>(&slice[2][0][0], 16 * j, e)));
      }
    }
  }
}

// q k^T of a warp's rows and 64 columns.
template <bool from_keys>
static __device__ void find_scores(const Sizes& z, const View& w, const PairShelf16& s, int column, Sums (&scores)[8]) {
#pragma unroll
  for (int j = 0; j < 8; ++j) scores[j] = {};
#pragma unroll 1
  for (int d = 0; d < z.DHQK; d += 16) {
    const Fragment left = load_fragment(deep_rows<kLongLine>(&s.own[0][0], w.row, d));
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (meets<from_keys>(w.row, column + 16 * j)) multiply_two(scores + 2 * j, left, load_fragment(flat_rows<kLongLine>(&s.other[0][0], column + 16 * j, d)));
  }
}

constexpr int kWeightLine = kTokens + 1;
static __device__ float* weights_in(PairShelf16& s) {  // in a half of the slices
  return (float*)&s.slices[0][0][0][0];
}
static_assert(4 * kTokens * kWeightLine <= sizeof(PairShelf16::slices) / 2);

// c += weights times others.
template <bool from_keys>
static __device__ void add_others(Sums (&c)[16], const Sums (&weights)[16], const Sizes& z, const View& w, PairShelf16& s, bool one_by_one) {
  if (one_by_one) {
    __syncthreads();  // the slices were read
#pragma unroll
    for (int j = 0; j < 16; j += 2) put_weights<kWeightLine>(weights_in(s), w.row, 8 * j, weights[j], weights[j + 1]);
    Sixteen sums;  // c stays in registers
#pragma unroll
    for (int j = 0; j < 16; ++j) sums.at[j] = c[j];
    add_one_by_one(sums, weights_in(s) + w.row * kWeightLine, kWeightLine, w.c.count, w.other, z.DHQK, z.DHQK);
#pragma unroll
    for (int j = 0; j < 16; ++j) c[j] = sums.at[j];
    __syncthreads();
    return;
  }
#pragma unroll
  for (int j = 0; j < 8; ++j)
    if (meets<from_keys>(w.row, 16 * j)) add_rows<8, kLongLine>(c, halves_of(weights[2 * j], weights[2 * j + 1]), &s.other[0][0], 16 * j);
}

// Rows of a warp go out by way of its rows of own values, which are no longer needed.
static __device__ void store_long(const Sizes& z, const View& w, PairShelf16& s, const Sums (&c)[16], float by, T* to) {
  T* const stage = &s.slices[0][0][w.row][0];
  const float both[2] = {by, by};
#pragma unroll
  for (int part = 0; part < 2; ++part)
    store_rows16<kEach, kEachLine>(stage, c + 8 * part, both, to + (w.c.token + w.row) * z.DHQK + kEach * part, z.DHQK, w.c.count - w.row, z.DHQK - kEach * part);
}

// ---- from queries: 1 / (N + eps), dr, dm, dq

static __device__ float weight_from(const Column& key, const RowGate& row, int at, int row_at) {
  return at > row_at || at < row.first ? 0.0f : fast_exp((key.x - row.x) + (key.x_rest - row.x_rest));
}

static __device__ void find_queries(const kd_arguments& a) {
  PairShelf16& s = *(PairShelf16*)shared;
  const Sizes z = sizes_of(a);
  const View w = view_of<false>(a, z);
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, row = w.row + g;
  const Gate* const of_tokens = gates_of(a, w.c.token);
  const RowGate gates[2] = {row_gate(of_tokens[min(row, w.c.count - 1)]), row_gate(of_tokens[min(row + 8, w.c.count - 1)])};
  if (threadIdx.x < kTokens) {  // u of the keys
    const Gate* const own = of_tokens + min((int)threadIdx.x, w.c.count - 1);
    s.columns[threadIdx.x] = {own->u, own->u_rest, 0.0f, 0.0f};
    s.n[threadIdx.x] = threadIdx.x < z.DHQK ? n_of(a, z, w.c.head, w.c.at)[threadIdx.x] : 0.0f;
  }
  const float by = rsqrtf((float)z.DHQK);
  request_long(z, w, s);
#pragma unroll 1
  for (int pass = 0; pass < 2; ++pass) {
    Sums along[16], x[16];
    find_products<false>(z, w, s, along, x);
    RowSums sums = {};
#pragma unroll
    for (int part = 0; part < 2; ++part) {
      Sums scores[8];
      find_scores<false>(z, w, s, 64 * part, scores);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        if (!meets<false>(w.row, 64 * part + j / 2 * 16)) continue;
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int at = 64 * part + 8 * j + 2 * t + e % 2;
          const float weight = weight_from(s.columns[at], gates[e / 2], at, row + e / 2 * 8);
          float& dot = along[8 * part + j].at[e];
          const float weighted = weight == 0.0f ? 0.0f : weight * by * scores[j].at[e];
          if (weight == 0.0f) dot = 0.0f;
          sums.weighted[e / 2] += weighted;
          sums.dots[e / 2] += weighted * dot;
        }
      }
    }
#pragma unroll
    for (int j = 0; j < 16; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int d = 8 * j + 2 * t + e % 2;
        const float past = gates[e / 2].past, query = past * by * widen(s.own[row + e / 2 * 8][d]);
        if (past == 0.0f) {
          x[j].at[e] = 0.0f;
        } else {
          sums.of_x[e / 2] += query * x[j].at[e];
          sums.of_n[e / 2] += query * s.n[d];
        }
      }
    Number numbers[2];
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      numbers[e] = number_of(a, gates[e].floor, sum_of_row(sums.weighted[e]), sum_of_row(sums.dots[e]), sum_of_row(sums.of_n[e]), sum_of_row(sums.of_x[e]));
      if (t == 0 && row + 8 * e < w.c.count) *numbers_of(a, z, w.c.token + row + 8 * e) = numbers[e];
    }
#pragma unroll
    for (int j = 0; j < 16; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const Number& number = numbers[e / 2];
        const float past = gates[e / 2].past;
        x[j].at[e] = past == 0.0f ? 0.0f : past * (x[j].at[e] * number.inverse + number.dr * s.n[8 * j + 2 * t + e % 2]);
      }
#pragma unroll
    for (int j = 0; j < 16; ++j) {
      if (!meets<false>(w.row, j / 2 * 16)) continue;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int at = 8 * j + 2 * t + e % 2;
        const float weight = weight_from(s.columns[at], gates[e / 2], at, row + e / 2 * 8);
        along[j].at[e] = weight == 0.0f ? 0.0f : weight * (along[j].at[e] * numbers[e / 2].inverse + numbers[e / 2].dr);
      }
    }
    add_others<false>(x, along, z, w, s, pass == 1);
    const bool is_finite = are_finite(x, 16);
    __syncwarp();
    store_long(z, w, s, x, by, (T*)a.outputs[0]);
    if (!__syncthreads_or(!is_finite)) break;  // else perhaps from keys without weight
  }
}
