// clang-format off
// The gradient seen from keys: dk, dv, and what the pairs of a chunk add to the gates.
#pragma once
struct OwnGates {
  float u[2], u_rest[2], share[2];
};

static __device__ void load_tokens(const kd_arguments& a, const Sizes& z, const Chunk& c, PairShelf16& s) {
  const int own = threadIdx.x;
  if (own >= kTokens) return;
  const Gate* const gate = gates_of(a, c.token) + min(own, c.count - 1);
  const Number* const number = numbers_of(a, z, c.token) + min(own, c.count - 1);
  s.first[own] = own < c.count ? gate->first : kTokens;
  s.columns[own] = {gate->x, gate->x_rest, number->inverse, number->dr};
}

// Of the key s in the row t.
static __device__ float weight_at(const Column& row, int first, const OwnGates& own, int e, int key, int t) {
  return key > t || key < first ? 0.0f : fast_exp((own.u[e] - row.x) + (own.u_rest[e] - row.x_rest));
}

// What 64 rows of the pairs add to the gates, from the last on: `columns` of the own keys; the sums of pairs over rows
// from t on and keys before t go to parts. `behind`: sums of the own keys over the rows behind.
static __device__ void add_up_pairs(PairShelf16& s, const Sums (&pairs)[8], int t0, int row, float (&columns)[2], float (&behind)[2]) {
  const int t = threadIdx.x % 4;
#pragma unroll
  for (int j = 7; j >= 0; --j) {
    const int at = t0 + 8 * j + 2 * t;
    if (!meets<true>(row / 16 * 16, t0 + j / 2 * 16)) {
      if (threadIdx.x % 32 < 4) s.parts[threadIdx.x / 32][at] = s.parts[threadIdx.x / 32][at + 1] = 0.0f;
      continue;
    }
    float over = 0.0f, over_next = 0.0f;
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const float x = pairs[j].at[2 * e], next = pairs[j].at[2 * e + 1], both = x + next;
      const float one = __shfl_down_sync(0xffffffffu, both, 1, 4), two = __shfl_down_sync(0xffffffffu, both, 2, 4), three = __shfl_down_sync(0xffffffffu, both, 3, 4);
      const float right = (t < 3 ? one : 0.0f) + (t < 2 ? two : 0.0f) + (t < 1 ? three : 0.0f);
      const float from_next = next + (right + behind[e]), from = x + from_next;
      behind[e] = __shfl_sync(0xffffffffu, from, 0, 4);
      columns[e] += both;
      if (row + 8 * e < at) over += from;
      if (row + 8 * e < at + 1) over_next += from_next;
    }
#pragma unroll
    for (int other = 4; other < 32; other *= 2) {
      over += __shfl_xor_sync(0xffffffffu, over, other);
      over_next += __shfl_xor_sync(0xffffffffu, over_next, other);
    }
    if (threadIdx.x % 32 < 4) s.parts[threadIdx.x / 32][at] = over, s.parts[threadIdx.x / 32][at + 1] = over_next;
  }
}

// dk, whose weights take the place of along; and what pairs add to the gates.
static __device__ void find_dk(const kd_arguments& a, const Sizes& z, const View& w, PairShelf16& s, const OwnGates& own, bool one_by_one, Sums (&along)[16], Sums (&dk)[16]) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, row = w.row + g;
  const float* const dn = dn_of(a, z, w.c.head, w.c.at);
  const float by = rsqrtf((float)z.DHQK);
  float written[2] = {}, columns[2] = {}, behind[2] = {};
#pragma unroll
  for (int j = 0; j < 16; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int d = 8 * j + 2 * t + e % 2;
      float& sum = dk[j].at[e];
      sum = d < z.DHQK ? scaled(own.share[e / 2], sum + dn[d]) : 0.0f;
      written[e / 2] += own.share[e / 2] == 0.0f ? 0.0f : widen(s.own[row + e / 2 * 8][d]) * sum;
    }
#pragma unroll
  for (int part = 1; part >= 0; --part) {
    Sums scores[8];
    find_scores<true>(z, w, s, 64 * part, scores);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      if (!meets<true>(w.row, 64 * part + j / 2 * 16)) continue;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int at = 64 * part + 8 * j + 2 * t + e % 2;
        const Column column = s.columns[at];
        const float weight = weight_at(column, s.first[at], own, e / 2, row + e / 2 * 8, at);
        float& power = along[8 * part + j].at[e];
        power = weight == 0.0f ? 0.0f : by * weight * (power * column.inverse + column.dr);
        scores[j].at[e] = weight == 0.0f ? 0.0f : power * scores[j].at[e];
      }
    }
    add_up_pairs(s, scores, 64 * part, row, columns, behind);
  }
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    const float column = sum_of_row(columns[e]), to_state = sum_of_row(written[e]);
    Number* const number = numbers_of(a, z, w.c.token) + row + 8 * e;
    if (t == 0 && row + 8 * e < w.c.count) number->column = column, number->to_state = to_state;
  }
  add_others<true>(dk, along, z, w, s, one_by_one);
}

// Scores with their weights over N + eps, as a left factor.
static __device__ void find_weights(const Sizes& z, const View& w, PairShelf16& s, const OwnGates& own, bool one_by_one, Halves (&weights)[8]) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, row = w.row + g;
  const float by = rsqrtf((float)z.DHQK);
#pragma unroll
  for (int part = 0; part < 2; ++part) {
    Sums scores[8];
    find_scores<true>(z, w, s, 64 * part, scores);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      if (!meets<true>(w.row, 64 * part + j / 2 * 16)) continue;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int at = 64 * part + 8 * j + 2 * t + e % 2;
        const Column column = s.columns[at];
        const float weight = weight_at(column, s.first[at], own, e / 2, row + e / 2 * 8, at);
        scores[j].at[e] = weight == 0.0f ? 0.0f : weight * by * scores[j].at[e] * column.inverse;
      }
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      weights[4 * part + j] = halves_of(scores[2 * j], scores[2 * j + 1]);
      if (one_by_one) put_weights<kWeightLine>(weights_in(s), w.row, 64 * part + 16 * j, scores[2 * j], scores[2 * j + 1]);
    }
  }
}

// Where values without weight are not finite: adds the tokens' part to dv, in the array, for a warp's rows.
static __device__ __noinline__ void add_to_dv(const kd_arguments& a, const Sizes& z, const View& w, const float* weights, int e0, const Sums (&past)[kEach / 8]) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  Sixteen sums = {};
#pragma unroll
  for (int j = 0; j < kEach / 8; ++j) sums.at[j] = past[j];
  add_one_by_one(sums, weights + w.row * kWeightLine, kWeightLine, w.c.count, w.other_values + e0, z.DHHV, min(z.DHHV - e0, kEach));
#pragma unroll 1
  for (int at = 0; at < 4 * (kEach / 8); ++at) {
    const int row = w.row + g + at / 2 % 2 * 8, column = e0 + at / 4 * 8 + 2 * t + at % 2;
    if (row < w.c.count && column < z.DHHV) ((T*)a.outputs[2])[(w.c.token + row) * z.DHHV + column] = narrow(sums.at[at / 4].at[at % 4]);
  }
}

// Whether dv, which is stored, is finite.
static __device__ bool store_dv16(const kd_arguments& a, const Sizes& z, const View& w, PairShelf16& s, const OwnGates& own, bool one_by_one) {
  Halves weights[8];
  __syncthreads();  // the slices were read
  find_weights(z, w, s, own, one_by_one, weights);
  const int half = one_by_one ? 1 : 0;  // the other half has the weights
  bool is_finite = true;
  request_columns(z, w, 0, half, s);
  for (int e0 = 0, at = half; e0 < z.DHHV; e0 += kEach, at = one_by_one ? 1 : 1 - at) {
    wait_for_requests<0>();
    __syncthreads();
    if (e0 + kEach < z.DHHV && !one_by_one) request_columns(z, w, e0 + kEach, 1 - at, s);
    auto& slice = s.slices[at];
    Sums dv[kEach / 8] = {};
#pragma unroll 1
    for (int d = 0; d < z.DHQK; d += 16) {
      const Fragment key = load_fragment(deep_rows<kLongLine>(&s.own[0][0], w.row, d));
      add_rows<kEach / 16, kEachLine>(dv, key, &slice[3][0][0], d);
      add_rows<kEach / 16, kEachLine>(dv, key, &slice[2][0][0], d);
    }
#pragma unroll
    for (int j = 0; j < kEach / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) dv[j].at[e] = scaled(own.share[e / 2], dv[j].at[e]);
    if (one_by_one) {
      add_to_dv(a, z, w, weights_in(s), e0, dv);
      __syncthreads();
      if (e0 + kEach < z.DHHV) request_columns(z, w, e0 + kEach, 1, s);
      continue;
    }
#pragma unroll
    for (int j = 0; j < 8; ++j)
      if (meets<true>(w.row, 16 * j)) add_rows<kEach / 16, kEachLine>(dv, weights[j], &slice[1][0][0], 16 * j);
    is_finite = is_finite && are_finite(dv, kEach / 8);
    const float both[2] = {1.0f, 1.0f};
    store_rows16<kEach, kEachLine>(&slice[0][w.row][0], dv, both, (T*)a.outputs[2] + (w.c.token + w.row) * z.DHHV + e0, z.DHHV, w.c.count - w.row, z.DHHV - e0);
  }
  return is_finite;
}

static __device__ void find_keys(const kd_arguments& a) {
  PairShelf16& s = *(PairShelf16*)shared;
  const Sizes z = sizes_of(a);
  const View w = view_of<true>(a, z);
  const int row = w.row + threadIdx.x % 32 / 4;
  OwnGates own;
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    const int at = min(row + 8 * e, w.c.count - 1);
    const Gate* const gate = gates_of(a, w.c.token + at);
    own.u[e] = gate->u, own.u_rest[e] = gate->u_rest, own.share[e] = weights_of(a, z, w.c.token)[at];
  }
  load_tokens(a, z, w.c, s);
  request_long(z, w, s);
#pragma unroll 1
  for (int pass = 0; pass < 2; ++pass) {
    bool is_finite;
    {
      Sums along[16], dk[16];
      find_products<true>(z, w, s, along, dk);
      find_dk(a, z, w, s, own, pass == 1, along, dk);
      is_finite = are_finite(dk, 16);
      store_long(z, w, s, dk, 1.0f, (T*)a.outputs[1]);
    }
    is_finite = store_dv16(a, z, w, s, own, pass == 1) && is_finite;
    if (threadIdx.x < w.c.count) {
      float over = 0.0f;
#pragma unroll
      for (int warp = 0; warp < kWarps; ++warp) over += s.parts[warp][threadIdx.x];
      numbers_of(a, z, w.c.token)[threadIdx.x].over = over;
    }
    if (!__syncthreads_or(!is_finite)) break;  // else perhaps from queries or dh without weight
  }
}
