// mlstm_chunkwise: h of every token and the state after the last.
//
// inputs q, k (heads, S, DHQK), v (heads, S, DHHV), i, f (heads, S) and, with has_state, c0 (heads,
// DHQK, DHHV), n0 (heads, DHQK), m0 (heads), all float but q, k and v; outputs h (heads, S, DHHV),
// c, n, m. A unit is a head, or a part of the columns of its values where there are fewer heads
// than threads; each part finds the scores and n for itself. Its chunks run one after the other;
// the state between them stays in the caches. `stage`: the tokens of a chunk, above 2^20 the units
// of a task, which has scratch memory of its own (open_forward), and above 2^40 the parts of a
// head.
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

// The columns of a unit; `all`: of its head.
struct Slice {
  long head, from, columns, all;
  bool is_first;
};
static Slice slice_of(const kd_arguments* a, long unit, long parts) {
  const long all = a->dims[KD_DIM_DHHV], lines = padded(all) / kLine, part = unit % parts;
  const long from = lines * part / parts * kLine, end = lines * (part + 1) / parts * kLine;
  return {unit / parts, from, (end < all ? end : all) - from, all, part == 0};
}

// `z`: with the columns of the part.
static void run_part(const kd_arguments* a, const Slice& part, const Sizes& z, const Forward& w) {
  const long head = part.head;
  const T* q = (const T*)a->inputs[0] + head * z.s * z.qk;
  const T* k = (const T*)a->inputs[1] + head * z.s * z.qk;
  const T* v = (const T*)a->inputs[2] + head * z.s * part.all + part.from;
  const float* i = (const float*)a->inputs[3] + head * z.s;
  const float* f = (const float*)a->inputs[4] + head * z.s;
  const bool sigmoid = a->dims[KD_DIM_siging], normalize = a->dims[KD_DIM_normalize];
  const float eps = float(a->scalars[KD_SCALAR_eps]), by = 1 / __builtin_sqrtf(float(z.qk));
  const Gates g = gates_at(w.gates, z.room);
  bool has_past = a->dims[KD_DIM_has_state];
  const float* const c0 = (const float*)a->inputs[5] + head * z.qk * part.all + part.from;
  load_float_columns(w.c, has_past ? c0 : nullptr, part.all, z.qk, z.hv);
  load_row(w.n, has_past ? (const float*)a->inputs[6] + head * z.qk : nullptr, z.qk);
  double m = has_past ? double(((const float*)a->inputs[7])[head]) : 0;
  for (long from = 0; from < z.s; from += z.chunk, has_past = true) {
    const long count = z.s - from < z.chunk ? z.s - from : z.chunk;
    load_block(w.q, q + from * z.qk, count, z.qk, by);
    load_block(w.k, k + from * z.qk, count, z.qk, 1);
    load_columns(w.v, v + from * part.all, part.all, count, z.hv, 1);
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
    store_columns((T*)a->outputs[0] + (head * z.s + from) * part.all + part.from, part.all, w.h,
                  count, z.hv, 1);
    const float past = find_shares(g, count, w.shares);
    scale_rows(w.k, z.by_qk, z.rows_qk, w.shares, count);
    take_chunk(z, count, past, w.k, w.v, w.c, w.n);
  }
  // The state belongs to m as it is stored.
  const float stored = float(m), rest = m - m == 0 ? float(m - double(stored)) : 0.0f;
  store_float_columns((float*)a->outputs[1] + head * z.qk * part.all + part.from, part.all, w.c,
                      z.qk, z.hv, 1 + rest);
  if (!part.is_first) return;
  store_floats((float*)a->outputs[2] + head * z.qk, w.n, 1, z.qk, 1 + rest);
  ((float*)a->outputs[3])[head] = stored;
}

extern "C" void mlx_kd_mlstm_chunkwise(const kd_arguments* a, long begin, long end) {
  constexpr long kLow = (1 << 20) - 1;
  const long chunk = a->stage & kLow, units = a->stage >> 20 & kLow, parts = a->stage >> 40;
  const auto sizes = [&](long columns) {
    return sizes_of(a->dims[KD_DIM_S], chunk, a->dims[KD_DIM_DHQK], columns);
  };
  Forward w;
  const long lines = padded(a->dims[KD_DIM_DHHV]) / kLine;
  const long floats = open_forward(sizes((lines + parts - 1) / parts * kLine), nullptr, w);
  float* const scratch = (float*)a->scratch[0] + begin / units * floats;
  for (long unit = begin; unit < end; ++unit) {
    const Slice part = slice_of(a, unit, parts);
    const Sizes z = sizes(part.columns);
    open_forward(z, scratch, w);
    run_part(a, part, z, w);
  }
}
