// clang-format off
// dq, dk, dv and the cotangents of the memory: the products of mlstm_chunkwise_vjp.
#pragma once
constexpr int kPairLine = kTile + 4;

struct PairShelf {
  Factors factors;
  alignas(16) float pairs[kTile][kPairLine];  // of a row token and a column token
  float u[kTile], u_rest[kTile];
};

static __device__ Source<T> tokens_of(const kd_arguments& a, int input, const Chunk& c, int wide, int column0) {
  return {(const T*)a.inputs[input] + c.token * wide + column0, wide, c.count, wide - column0};
}
static __device__ Source<T> keys_of(const kd_arguments& a, const Sizes& z, int input, const Chunk& c, int column0 = 0) {
  return tokens_of(a, input, c, z.DHQK, column0);
}
static __device__ Source<T> values_of(const kd_arguments& a, const Sizes& z, int input, const Chunk& c, int column0 = 0) {
  return tokens_of(a, input, c, z.DHHV, column0);
}
constexpr int kQ = 0, kK = 1, kV = 2, kDh = 8;  // inputs

// Of the two rows of a lane.
struct TwoGates {
  Gate at[2];
};
static __device__ TwoGates gates_of_rows(const kd_arguments& a, const Chunk& c) {
  const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
  const Gate* const gates = gates_of(a, c.token);
  return {gates[min(row, c.count - 1)], gates[min(row + 8, c.count - 1)]};
}
static __device__ bool is_lower(int row) {
  return row % 16 >= 8;
}

// The weights of the pairs of tokens of a chunk, their scores q k^T and dh v^T; of tokens that have no weight all are 0.
struct Pairs {
  Tile64 weights, scores, along;
};
static __device__ void find_pairs(const kd_arguments& a, const Sizes& z, const Chunk& c, const TwoGates& gates, PairShelf& s, Pairs& pairs) {
  if (threadIdx.x < kTile) {
    const Gate* const gate = gates_of(a, c.token) + min((int)threadIdx.x, c.count - 1);
    s.u[threadIdx.x] = gate->u, s.u_rest[threadIdx.x] = gate->u_rest;
  }
  pairs = {};
  Product<true, true, kIsExact, kIsExact>::add(pairs.scores, s.factors, keys_of(a, z, kQ, c), keys_of(a, z, kK, c), z.DHQK);
  Product<true, true, kIsExact, kIsExact>::add(pairs.along, s.factors, values_of(a, z, kDh, c), values_of(a, z, kV, c), z.DHHV);
  const float by = rsqrtf((float)z.DHQK);
#pragma unroll
  for (int j = 0; j < kTile / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + e / 2 * 8, column = 8 * j + 2 * (threadIdx.x % 4) + e % 2;
      const bool is_pair = column <= row && row < c.count;
      const float weight = is_pair ? weight_of(gates.at[e / 2], column, s.u[column], s.u_rest[column]) : 0.0f;
      pairs.weights.at[j].at[e] = weight;
      pairs.scores.at[j].at[e] = weight == 0.0f ? 0.0f : by * pairs.scores.at[j].at[e];
      if (weight == 0.0f) pairs.along.at[j].at[e] = 0.0f;
    }
}

// visit(row, column, weight, score, along)
template <class Visit>
static __device__ void each_pair(const Pairs& pairs, Visit visit) {
#pragma unroll
  for (int j = 0; j < kTile / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      visit(threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + e / 2 * 8, 8 * j + 2 * (threadIdx.x % 4) + e % 2,
            pairs.weights.at[j].at[e], pairs.scores.at[j].at[e], pairs.along.at[j].at[e]);
}

// Over the four lanes of a row.
static __device__ float sum_of_row(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

// ---- rows: 1 / (N + eps), dr, dm, dq

// Sums of a row: of weighted scores, these times dh v^T, and of what its q reads of n and of the memory times dh.
struct RowSums {
  float weighted[2], dots[2], of_n[2], of_x[2];
};

static __device__ Number number_of(const kd_arguments& a, float floor, float weighted, float dots, float of_n, float of_x) {
  const float total = weighted + of_n, size = fabsf(total), eps = (float)a.scalars[KD_SCALAR_eps];
  const bool is_normal = a.dims[KD_DIM_normalize] != 0, is_true = is_normal && a.dims[KD_DIM_normalizer_grad] != 0;
  const float inverse = is_normal ? 1.0f / ((size > floor || is_nan(size) ? size : floor) + eps) : 1.0f;
  const float product = (dots + of_x) * inverse;  // dh . h
  Number number = {};
  number.inverse = inverse;
  number.dr = is_true && size > floor ? (total < 0.0f ? product * inverse : -product * inverse) : 0.0f;
  number.dm = is_true && a.dims[KD_DIM_siging] == 0 ? -product * eps * inverse : 0.0f;
  number.from_past = of_x * inverse + of_n * number.dr;
  return number;
}

// dh times the memory before the chunk, columns [d0, d0 + 64): kept in scratch memory; its sums with past q.
static __device__ void read_past(const kd_arguments& a, const Sizes& z, const Chunk& c, const TwoGates& gates, int d0, PairShelf& s, RowSums& sums) {
  const float *const memory = memory_of(a, z, c.head, c.at) + (long)d0 * z.DHHV, *const n = n_of(a, z, c.head, c.at);
  const float by = rsqrtf((float)z.DHQK);
  Tile64 x = {};
  Product<true, true, kIsExact, false>::add(x, s.factors, values_of(a, z, kDh, c), Source<float>{memory, z.DHHV, z.DHQK - d0, z.DHHV}, z.DHHV);
  each_of(x, [&](int row, int column, float& sum) {
    const int d = d0 + column, own = is_lower(row);
    if (row >= c.count || d >= z.DHQK) return;
    const float past = gates.at[own].past;
    const float query = past == 0.0f ? 0.0f : past * by * as_float(((const T*)a.inputs[kQ])[(c.token + row) * z.DHQK + d]);
    if (past == 0.0f) sum = 0.0f;
    row_of(a, z, c.token + row)[d] = sum;
    sums.of_x[own] += query * sum;
    sums.of_n[own] += past == 0.0f ? 0.0f : query * n[d];
  });
}

static __device__ void find_rows(const kd_arguments& a) {
  __shared__ PairShelf s;
  const Sizes z = sizes_of(a);
  const Chunk c = chunk_of(z, blockIdx.x / z.chunks, blockIdx.x % z.chunks);
  const TwoGates gates = gates_of_rows(a, c);
  const float by = rsqrtf((float)z.DHQK);
  RowSums sums = {};
  Pairs pairs;
  find_pairs(a, z, c, gates, s, pairs);
  each_pair(pairs, [&](int row, int, float weight, float score, float along) {
    sums.weighted[is_lower(row)] += weight * score;
    sums.dots[is_lower(row)] += weight * score * along;
  });
  for (int d0 = 0; d0 < z.DHQK; d0 += kTile) read_past(a, z, c, gates, d0, s, sums);
  Number numbers[2];
#pragma unroll
  for (int own = 0; own < 2; ++own) {
    const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + 8 * own;
    numbers[own] = number_of(a, gates.at[own].floor, sum_of_row(sums.weighted[own]), sum_of_row(sums.dots[own]),
                             sum_of_row(sums.of_n[own]), sum_of_row(sums.of_x[own]));
    if (threadIdx.x % 4 == 0 && row < c.count) *numbers_of(a, z, c.token + row) = numbers[own];
  }
  each_pair(pairs, [&](int row, int column, float weight, float, float along) {
    const Number& number = numbers[is_lower(row)];
    s.pairs[row][column] = weight == 0.0f ? 0.0f : weight * (along * number.inverse + number.dr);
  });
  const Source<float> powers = {&s.pairs[0][0], kPairLine, kTile, kTile};
  const float* const n = n_of(a, z, c.head, c.at);
  for (int d0 = 0; d0 < z.DHQK; d0 += kTile) {
    Tile64 x;
    each_of(x, [&](int row, int column, float& sum) {
      const int d = d0 + column, own = is_lower(row);
      const float past = gates.at[own].past;
      const bool is_there = row < c.count && d < z.DHQK && past != 0.0f;
      sum = is_there ? past * (row_of(a, z, c.token + row)[d] * numbers[own].inverse + numbers[own].dr * n[d]) : 0.0f;
    });
    Product<true, false, false, kIsExact>::add(x, s.factors, powers, keys_of(a, z, kK, c, d0), c.count);
    each_of(x, [&](int row, int column, float& sum) {
      if (row < c.count && d0 + column < z.DHQK) ((T*)a.outputs[0])[(c.token + row) * z.DHQK + d0 + column] = narrow(by * sum);
    });
  }
}

// ---- the cotangents of the memory and of n

// The sum over all threads, for thread 0.
static __device__ float sum_of_group(float x, float (&parts)[kThreads / 32]) {
#pragma unroll
  for (int other = 16; other > 0; other /= 2) x += __shfl_xor_sync(0xffffffffu, x, other);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0.0f;
#pragma unroll
  for (int warp = 0; warp < kThreads / 32; ++warp) sum += parts[warp];
  return sum;
}

static __device__ void find_cotangents(const kd_arguments& a) {
  __shared__ Factors factors;
  __shared__ float scales[kTile], scales_of_n[kTile], parts[kThreads / 32];
  const Sizes z = sizes_of(a);
  const Tile tile = tile_of(z);
  const bool has_n = tile.column0 == 0 && threadIdx.x < tile.rows;
  const int own = tile.row0 + threadIdx.x;
  const auto place = [&](int r, int e) { return (long)(tile.row0 + r) * z.DHHV + tile.column0 + e; };
  const auto is_there = [&](int r, int e) { return r < tile.rows && e < tile.columns; };
  const long memory = tile.head * z.DHQK * z.DHHV;
  const float by = rsqrtf((float)z.DHQK);
  Tile64 sums;
  each_of(sums, [&](int r, int e, float& sum) { sum = is_there(r, e) ? ((const float*)a.inputs[9])[memory + place(r, e)] : 0.0f; });
  float dn = has_n ? ((const float*)a.inputs[10])[tile.head * z.DHQK + own] : 0.0f;
  for (int at = z.chunks - 1; at >= 0; --at) {
    const Chunk c = chunk_of(z, tile.head, at);
    const float last = gates_of(a, c.token + c.count - 1)->past;
    float* const behind = cotangent_of(a, z, tile.head, at);
    const float* const before = memory_of(a, z, tile.head, at);
    float through = has_n && last != 0.0f ? dn * n_of(a, z, tile.head, at)[own] : 0.0f;
    each_of(sums, [&](int r, int e, float& sum) {
      if (!is_there(r, e)) return;
      behind[place(r, e)] = sum;
      if (last != 0.0f) through += sum * before[place(r, e)];
      sum = scaled(last, sum);
    });
    if (has_n) dn_of(a, z, tile.head, at)[own] = dn;
    dn = scaled(last, dn);
    through = sum_of_group(through, parts);
    if (threadIdx.x == 0) through_of(a, z, tile.head, at)[blockIdx.y] = scaled(last, through);
    if (threadIdx.x < c.count) {
      const Number* const number = numbers_of(a, z, c.token + threadIdx.x);
      const float past = by * gates_of(a, c.token + threadIdx.x)->past;
      scales[threadIdx.x] = scaled(past, number->inverse), scales_of_n[threadIdx.x] = scaled(past, number->dr);
    }
    Product<false, false, false, kIsExact>::add(sums, factors, keys_of(a, z, kQ, c, tile.row0), values_of(a, z, kDh, c, tile.column0),
                                                c.count, [&](int t) { return t < c.count ? scales[t] : 0.0f; });
    for (int t = 0; t < c.count && has_n; ++t)
      dn += scaled(scales_of_n[t], as_float(((const T*)a.inputs[kQ])[(c.token + t) * z.DHQK + own]));
  }
  if (!z.has_state) return;
  each_of(sums, [&](int r, int e, float& sum) { if (is_there(r, e)) ((float*)a.outputs[5])[memory + place(r, e)] = sum; });
  if (has_n) ((float*)a.outputs[6])[tile.head * z.DHQK + own] = dn;
}

// ---- columns: dk, dv

// What the pairs of a chunk add to the gates: s.pairs has power times score of each, and is overwritten.
static __device__ void sum_pairs(const kd_arguments& a, const Sizes& z, const Chunk& c, PairShelf& s) {
  const int own = threadIdx.x;
  Number* const number = numbers_of(a, z, c.token) + own;
  __syncthreads();
  float sum = 0.0f;
  for (int t = own; t < c.count && own < kTile; ++t) sum += s.pairs[t][own];
  if (own < c.count) number->column = sum;
  __syncthreads();
  sum = 0.0f;
  for (int e = 0; e < kTile && own < kTile; ++e) s.pairs[own][e] = sum += s.pairs[own][e];
  __syncthreads();
  sum = 0.0f;
  for (int t = own; t < c.count && own > 0; ++t) sum += s.pairs[t][own - 1];
  if (own < c.count) number->over = sum;
  __syncthreads();
}

static __device__ void store_dv(const kd_arguments& a, const Sizes& z, const Chunk& c, PairShelf& s) {
  const float *const behind = cotangent_of(a, z, c.head, c.at), *const shares = weights_of(a, z, c.token);
  const Source<float> weighted = {&s.pairs[0][0], kPairLine, kTile, kTile};
  for (int e0 = 0; e0 < z.DHHV; e0 += kTile) {
    Tile64 x = {};
    Product<true, false, kIsExact, false>::add(x, s.factors, keys_of(a, z, kK, c), Source<float>{behind + e0, z.DHHV, z.DHQK, z.DHHV - e0}, z.DHQK);
    each_of(x, [&](int row, int, float& sum) { sum = row < c.count ? scaled(shares[row], sum) : 0.0f; });
    Product<false, false, false, kIsExact>::add(x, s.factors, weighted, values_of(a, z, kDh, c, e0), c.count);
    each_of(x, [&](int row, int column, float& sum) {
      if (row < c.count && e0 + column < z.DHHV) ((T*)a.outputs[2])[(c.token + row) * z.DHHV + e0 + column] = narrow(sum);
    });
  }
}

static __device__ void store_dk(const kd_arguments& a, const Sizes& z, const Chunk& c, PairShelf& s) {
  const float *const behind = cotangent_of(a, z, c.head, c.at), *const dn = dn_of(a, z, c.head, c.at);
  const float* const shares = weights_of(a, z, c.token);
  const Source<float> powers = {&s.pairs[0][0], kPairLine, kTile, kTile};
  float written[2] = {};
  for (int d0 = 0; d0 < z.DHQK; d0 += kTile) {
    Tile64 x = {};
    Product<true, true, kIsExact, false>::add(x, s.factors, values_of(a, z, kV, c), Source<float>{behind + (long)d0 * z.DHHV, z.DHHV, z.DHQK - d0, z.DHHV}, z.DHHV);
    each_of(x, [&](int row, int column, float& sum) {
      const int d = d0 + column;
      const bool is_there = row < c.count && d < z.DHQK;
      sum = is_there ? scaled(shares[row], sum + dn[d]) : 0.0f;
      if (is_there) written[is_lower(row)] += as_float(((const T*)a.inputs[kK])[(c.token + row) * z.DHQK + d]) * sum;
    });
    Product<false, false, false, kIsExact>::add(x, s.factors, powers, keys_of(a, z, kQ, c, d0), c.count);
    each_of(x, [&](int row, int column, float& sum) {
      if (row < c.count && d0 + column < z.DHQK) ((T*)a.outputs[1])[(c.token + row) * z.DHQK + d0 + column] = narrow(sum);
    });
  }
#pragma unroll
  for (int own = 0; own < 2; ++own) {
    const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + 8 * own;
    written[own] = sum_of_row(written[own]);
    if (threadIdx.x % 4 == 0 && row < c.count) numbers_of(a, z, c.token + row)->to_state = written[own];
  }
}

static __device__ void find_columns(const kd_arguments& a) {
  __shared__ PairShelf s;
  const Sizes z = sizes_of(a);
  const Chunk c = chunk_of(z, blockIdx.x / z.chunks, blockIdx.x % z.chunks);
  const TwoGates gates = gates_of_rows(a, c);
  const float by = rsqrtf((float)z.DHQK);
  float inverse[2], dr[2];
#pragma unroll
  for (int own = 0; own < 2; ++own) {
    const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + 8 * own;
    const Number* const number = numbers_of(a, z, c.token + min(row, c.count - 1));
    inverse[own] = number->inverse, dr[own] = number->dr;
  }
  Pairs pairs;
  find_pairs(a, z, c, gates, s, pairs);
  const auto power = [&](int row, float weight, float along) {
    return weight == 0.0f ? 0.0f : weight * (along * inverse[is_lower(row)] + dr[is_lower(row)]);
  };
  each_pair(pairs, [&](int row, int column, float weight, float score, float along) {
    const float x = power(row, weight, along);
    s.pairs[row][column] = x == 0.0f ? 0.0f : x * score;
  });
  sum_pairs(a, z, c, s);
  each_pair(pairs, [&](int row, int column, float weight, float score, float) {
    s.pairs[row][column] = weight == 0.0f ? 0.0f : weight * score * inverse[is_lower(row)];
  });
  store_dv(a, z, c, s);
  __syncthreads();
  each_pair(pairs, [&](int row, int column, float weight, float, float along) { s.pairs[row][column] = by * power(row, weight, along); });
  store_dk(a, z, c, s);
}
