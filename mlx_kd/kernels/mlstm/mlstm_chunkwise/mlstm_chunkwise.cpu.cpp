// mlstm_chunkwise: h of every token and the state after the last.
//
// inputs q, k (heads, S, DHQK), v (heads, S, DHHV), i, f (heads, S) and, with has_state, c0 (heads,
// DHQK, DHHV), n0 (heads, DHQK), m0 (heads), all float but q, k and v; outputs h (heads, S, DHHV),
// c, n, m. A unit is a head. Its chunks run one after the other; the state between them stays in
// the caches. `stage`: the tokens of a chunk, and above 2^20 the heads of a task, which has scratch
// memory of its own (mlx_kd_mlstm_chunkwise_floats).
//
// Of a chunk: the scores q k^T of pairs (t, s), s <= t, with their weights (gates.cpu.h); then the
// rows h = (past (s q) C + M v) / (N + eps) tile by tile; then the state.
#include "chunk.cpu.h"

struct Forward {
  float *q, *k, *v, *k_t, *scores, *h, *c, *n, *gates, *sums, *shares;
};
static long open_forward(const Sizes& z, float* at, Forward& to) {
  Blocks blocks = {at};
  to.q = blocks.take(z.room * z.by_qk);
  to.k = blocks.take(z.room * z.by_qk);
  to.v = blocks.take(z.room * z.by_hv);
  to.k_t = blocks.take(z.rows_qk * z.by_token);
  to.scores = blocks.take(z.room * z.by_token);
  to.h = blocks.take(z.room * z.by_hv);
  to.c = blocks.take(z.rows_qk * z.by_hv);
  to.n = blocks.take(z.rows_qk);
  to.gates = blocks.take(kGateArrays * z.room);
  to.sums = blocks.take(z.room);
  to.shares = blocks.take(z.room);
  return blocks.count;
}

// Rows [t, t + ROWS) of h in C vectors of columns. No row sees a token after it, be it NaN.
template <int C>
KD_INLINE void find_rows(const Forward& w, const Sizes& z, const Gates& g, bool has_past, long t,
                         long column) {
  Floats sum[ROWS][C] = {};
  if (has_past) {
    add_products<C>(sum, Left<false>{w.q + t * z.by_qk, z.by_qk}, w.c + column, z.by_hv, 0, z.qk);
    KD_UNROLL
    for (int r = 0; r < ROWS; ++r)
      for (int c = 0; c < C; ++c) sum[r][c] *= g.past[t + r];
  }
  const float* const weighted = w.scores + t * z.by_token;
  add_products<C>(sum, Left<false>{weighted, z.by_token}, w.v + column, z.by_hv, 0, t);
  KD_UNROLL
  for (int s = 0; s < ROWS; ++s) {
    Floats row[C];
    KD_UNROLL
    for (int c = 0; c < C; ++c) row[c] = load(w.v + (t + s) * z.by_hv + column + c * kFloats);
    KD_UNROLL
    for (int r = s; r < ROWS; ++r)
      for (int c = 0; c < C; ++c) sum[r][c] += weighted[r * z.by_token + t + s] * row[c];
  }
  KD_UNROLL
  for (int r = 0; r < ROWS; ++r)
    for (int c = 0; c < C; ++c)
      store(w.h + (t + r) * z.by_hv + column + c * kFloats, sum[r][c] * w.sums[t + r]);
}

static void find_h(const Forward& w, const Sizes& z, const Gates& g, bool has_past, long count) {
  long c = 0;
  for (; c + TILE * kFloats <= z.rows_hv; c += TILE * kFloats)
    for (long t = 0; t < count; t += ROWS) find_rows<TILE>(w, z, g, has_past, t, c);
  for (; c < z.rows_hv; c += kFloats)
    for (long t = 0; t < count; t += ROWS) find_rows<1>(w, z, g, has_past, t, c);
}

static void run_head(const kd_arguments* a, long head, const Sizes& z, const Forward& w) {
  const T* q = (const T*)a->inputs[0] + head * z.s * z.qk;
  const T* k = (const T*)a->inputs[1] + head * z.s * z.qk;
  const T* v = (const T*)a->inputs[2] + head * z.s * z.hv;
  const float* i = (const float*)a->inputs[3] + head * z.s;
  const float* f = (const float*)a->inputs[4] + head * z.s;
  const bool sigmoid = a->dims[KD_DIM_siging], normalize = a->dims[KD_DIM_normalize];
  const float eps = float(a->scalars[KD_SCALAR_eps]), by = 1 / __builtin_sqrtf(float(z.qk));
  const Gates g = gates_at(w.gates, z.room);
  bool has_past = a->dims[KD_DIM_has_state];
  const float* const c0 = (const float*)a->inputs[5] + head * z.qk * z.hv;
  load_floats(w.c, has_past ? c0 : nullptr, z.qk, z.hv);
  load_row(w.n, has_past ? (const float*)a->inputs[6] + head * z.qk : nullptr, z.qk);
  double m = has_past ? double(((const float*)a->inputs[7])[head]) : 0;
  for (long from = 0; from < z.s; from += z.chunk, has_past = true) {
    const long count = z.s - from < z.chunk ? z.s - from : z.chunk;
    load_block(w.q, q + from * z.qk, count, z.qk, by);
    load_block(w.k, k + from * z.qk, count, z.qk, 1);
    load_block(w.v, v + from * z.hv, count, z.hv, 1);
    m = find_gates(g, i + from, f + from, count, m, sigmoid);
    transpose(w.k_t, w.k, padded(count), z.rows_qk);
    multiply({w.scores, z.by_token, padded(count), padded(count), w.k_t, stride_of(count), z.qk},
             Left<false>{w.q, z.by_qk}, Part::lower, 0);
    weigh(g, z, count, w.scores, w.scores, w.sums);
    for (long t = 0; t < padded(count); ++t) {
      const float r = has_past && normalize
                          ? w.sums[t] + g.past[t] * dot(w.q + t * z.by_qk, w.n, z.rows_qk)
                          : w.sums[t];
      w.sums[t] = normaliser(r, g.floor[t], eps, normalize);
    }
    find_h(w, z, g, has_past, count);
    store_block((T*)a->outputs[0] + (head * z.s + from) * z.hv, w.h, count, z.hv, 1);
    const float past = find_shares(g, count, w.shares);
    scale_rows(w.k, z.by_qk, z.rows_qk, w.shares, count);
    take_chunk(z, count, past, w.k, w.v, w.c, w.n);
  }
  // The state belongs to m as it is stored.
  const float stored = float(m), rest = m - m == 0 ? float(m - double(stored)) : 0.0f;
  store_floats((float*)a->outputs[1] + head * z.qk * z.hv, w.c, z.qk, z.hv, 1 + rest);
  store_floats((float*)a->outputs[2] + head * z.qk, w.n, 1, z.qk, 1 + rest);
  ((float*)a->outputs[3])[head] = stored;
}

extern "C" void mlx_kd_mlstm_chunkwise(const kd_arguments* a, long begin, long end) {
  const Sizes z = sizes_of(a->dims[KD_DIM_S], a->stage & ((1 << 20) - 1), a->dims[KD_DIM_DHQK],
                           a->dims[KD_DIM_DHHV]);
  Forward w;
  const long floats = open_forward(z, nullptr, w);
  open_forward(z, (float*)a->scratch[0] + begin / (a->stage >> 20) * floats, w);
  for (long head = begin; head < end; ++head) run_head(a, head, z, w);
}
