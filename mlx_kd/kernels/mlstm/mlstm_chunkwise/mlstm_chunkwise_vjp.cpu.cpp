// mlstm_chunkwise_vjp: the gradient of mlstm_chunkwise.
//
// inputs q, k, v, i, f, c0, n0, m0 as of the operator, then the cotangents dh (heads, S, DHHV), dc,
// dn, dm; outputs dq, dk, dv, di, df and, with has_state, dc0, dn0, dm0. A unit is a head. `stage`:
// the tokens of a chunk, above 2^20 the heads of a task, above 2^40 `every`.
//
// The states before the chunks come again: those of every so many chunks are kept, those between
// are computed once more when the chunks are taken from the last to the first. With the weights E
// and the scores q k^T of a chunk (gates.cpu.h), M = E o q k^T:
//   dH = dh / (N + eps), P = (dH v^T + dr) o E, dh . h = sum(M o dH v^T) + past q . (C dH)
//   dr = -sign(r) (dh . h) / (N + eps) where |r| > exp(-m); dm = -(dh . h) eps / (N + eps)
//   dq = P k + past (dH C^T + dr n), dk = P^T q + share (v dC^T + dn), dv = M^T dH + share k dC
//   dC before = past_last dC + (past q)^T dH
// i_s has the column sums of G = P o q k^T; log sigmoid(f_j) has the sum of G over t >= j > s, of
// what reads the state before, of what writes the state behind, and of what passes through.
#include "chunk.cpu.h"

struct Backward {
  float *q, *k, *v, *dh, *k_t, *v_t, *scores, *weighted, *powers;
  float *dq, *dk, *dv, *c_t, *dc_t, *dc, *dn, *shares, *sums, *dr, *columns;
  float *gates, *slots, *kept;
  float *to_state, *from_past, *written, *dm;  // of each token of a chunk
};
KD_INLINE long floats_of_state(const Sizes& z) {
  return z.rows_qk * z.by_hv + z.rows_qk;
}
static long open_backward(const Sizes& z, long every, float* at, Backward& to) {
  Blocks blocks = {at};
  float** const of_keys[] = {&to.q, &to.k, &to.dq, &to.dk};
  float** const of_values[] = {&to.v, &to.dh, &to.dv};
  float** const of_pairs[] = {&to.scores, &to.weighted, &to.powers};
  float** const of_tokens[] = {&to.shares,   &to.sums,      &to.dr,      &to.columns,
                               &to.to_state, &to.from_past, &to.written, &to.dm};
  for (float** block : of_keys) *block = blocks.take(z.room * z.by_qk);
  for (float** block : of_values) *block = blocks.take(z.room * z.by_hv);
  for (float** block : of_pairs) *block = blocks.take(z.room * z.by_token);
  for (float** row : of_tokens) *row = blocks.take(z.room);
  to.k_t = blocks.take(z.rows_qk * z.by_token);
  to.v_t = blocks.take(z.rows_hv * z.by_token);
  to.c_t = blocks.take(z.rows_hv * z.by_qk);
  to.dc_t = blocks.take(z.rows_hv * z.by_qk);
  to.dc = blocks.take(z.rows_qk * z.by_hv);
  to.dn = blocks.take(z.rows_qk);
  to.gates = blocks.take(z.chunks * kGateArrays * z.room);
  to.slots = blocks.take(every * floats_of_state(z));
  to.kept = blocks.take((z.chunks + every - 1) / every * floats_of_state(z));
  return blocks.count;
}

// A head on its way.
struct Work {
  const kd_arguments* a;
  const Sizes& z;
  const Backward& w;
  long head, every;

  long count_of(long chunk) const {
    const long left = z.s - chunk * z.chunk;
    return left < z.chunk ? left : z.chunk;
  }
  Gates gates_of(long chunk) const {
    return gates_at(w.gates + chunk * kGateArrays * z.room, z.room);
  }
  // Rows of an array from the chunk's first token on.
  const T* rows_of(int port, long chunk, long width) const {
    return (const T*)a->inputs[port] + (head * z.s + chunk * z.chunk) * width;
  }
  const float* numbers_of(int port, long chunk) const {
    return (const float*)a->inputs[port] + head * z.s + chunk * z.chunk;
  }
  const float* state_of(int port, long width) const {
    return (const float*)a->inputs[port] + head * width;
  }
  bool has_state() const { return a->dims[KD_DIM_has_state]; }
};

KD_INLINE void copy_floats(float* to, const float* from, long count) {
  __builtin_memcpy(to, from, (unsigned long)count * sizeof(float));
}

// `state`: C, then n. From before the chunk to after it.
KD_APART void pass_chunk(const Work& work, long chunk, float* state) {
  const Sizes& z = work.z;
  const Backward& w = work.w;
  const long count = work.count_of(chunk);
  load_block(w.k, work.rows_of(1, chunk, z.qk), count, z.qk, 1);
  load_block(w.v, work.rows_of(2, chunk, z.hv), count, z.hv, 1);
  const float past = find_shares(work.gates_of(chunk), count, w.shares);
  scale_rows(w.k, z.by_qk, z.rows_qk, w.shares, count);
  take_chunk(z, count, past, w.k, w.v, state, state + z.rows_qk * z.by_hv);
}

// The gates of all chunks, and the states before every so many of them.
KD_APART void run_forward(const Work& work) {
  const Sizes& z = work.z;
  const Backward& w = work.w;
  const long state = floats_of_state(z);
  load_floats(w.slots, work.has_state() ? work.state_of(5, z.qk * z.hv) : nullptr, z.qk, z.hv);
  load_row(w.slots + z.rows_qk * z.by_hv, work.has_state() ? work.state_of(6, z.qk) : nullptr,
           z.qk);
  double m = work.has_state() ? double(*work.state_of(7, 1)) : 0;
  for (long chunk = 0; chunk < z.chunks; ++chunk) {
    m = find_gates(work.gates_of(chunk), work.numbers_of(3, chunk), work.numbers_of(4, chunk),
                   work.count_of(chunk), m, work.a->dims[KD_DIM_siging]);
    if (chunk % work.every == 0) copy_floats(w.kept + chunk / work.every * state, w.slots, state);
    if (chunk + 1 < z.chunks) pass_chunk(work, chunk, w.slots);
  }
}

// The states before the chunks [first, end), the first of which is kept, into the slots.
static const float* reopen(const Work& work, long first, long end) {
  const long state = floats_of_state(work.z);
  const float* const kept = work.w.kept + first / work.every * state;
  if (work.every == 1) return kept;
  copy_floats(work.w.slots, kept, state);
  for (long chunk = first; chunk + 1 < end; ++chunk) {
    float* const next = work.w.slots + (chunk + 1 - first) * state;
    copy_floats(next, next - state, state);
    pass_chunk(work, chunk, next);
  }
  return work.w.slots;
}

KD_APART void open_chunk(const Work& work, long chunk, long count, const float* c, bool has_past) {
  const Sizes& z = work.z;
  const Backward& w = work.w;
  load_block(w.q, work.rows_of(0, chunk, z.qk), count, z.qk, 1 / __builtin_sqrtf(float(z.qk)));
  load_block(w.k, work.rows_of(1, chunk, z.qk), count, z.qk, 1);
  load_block(w.v, work.rows_of(2, chunk, z.hv), count, z.hv, 1);
  load_block(w.dh, work.rows_of(8, chunk, z.hv), count, z.hv, 1);
  transpose(w.k_t, w.k, padded(count), z.rows_qk);
  transpose(w.v_t, w.v, padded(count), z.rows_hv);
  if (has_past) transpose(w.c_t, c, z.rows_qk, z.rows_hv);
  transpose(w.dc_t, w.dc, z.rows_qk, z.rows_hv);
}

// Of each row: 1 / (N + eps) into dh; then dr and dm. Leaves in `weighted` M, in `powers` P, in dq
// dH C^T.
KD_APART void find_powers(const Work& work, const Gates& g, long count, const float* n,
                          bool has_past) {
  const Sizes& z = work.z;
  const Backward& w = work.w;
  const bool normalize = work.a->dims[KD_DIM_normalize];
  const bool is_true = normalize && work.a->dims[KD_DIM_normalizer_grad];
  const float eps = float(work.a->scalars[KD_SCALAR_eps]);
  const long all = padded(count), by = z.by_token;
  multiply({w.scores, by, all, all, w.k_t, stride_of(count), z.qk}, Left<false>{w.q, z.by_qk},
           Part::lower, 0);
  weigh(g, z, count, w.scores, w.weighted, w.sums);
  for (long t = 0; t < all; ++t) {
    const float r =
        w.sums[t] + (has_past ? g.past[t] * dot(w.q + t * z.by_qk, n, z.rows_qk) : 0.0f);
    w.sums[t] = normaliser(r, g.floor[t], eps, normalize);
    scale(w.dh + t * z.by_hv, w.sums[t], z.rows_hv);
    const float size = r < 0 ? -r : r;
    w.dr[t] = is_true && size > g.floor[t] ? (r < 0 ? w.sums[t] : -w.sums[t]) : 0;
  }
  multiply({w.powers, by, all, all, w.v_t, stride_of(count), z.hv}, Left<false>{w.dh, z.by_hv},
           Part::lower, 0);
  if (has_past)
    multiply({w.dq, z.by_qk, all, z.rows_qk, w.c_t, z.by_qk, z.hv}, Left<false>{w.dh, z.by_hv},
             Part::all, 0);
  for (long t = 0; t < all; ++t) {
    const long columns = padded(t + 1);
    float along = dot(w.weighted + t * by, w.powers + t * by, columns);
    if (has_past) along += g.past[t] * dot(w.q + t * z.by_qk, w.dq + t * z.by_qk, z.rows_qk);
    w.dr[t] *= along;
    const bool has_m = is_true && !work.a->dims[KD_DIM_siging] && t < count;
    w.dm[t] = has_m ? -along * eps * w.sums[t] : 0;
    for (long s = 0; s < columns; s += kFloats) {
      const Floats weight = t < count ? weights(g, t, s) : Floats{};
      store(w.powers + t * by + s, (load(w.powers + t * by + s) + w.dr[t]) * weight);
    }
  }
}

// Of G = P o q k^T: the sums of its columns, and in `sums` for each t the sum over the pairs of a
// row from t on and a column before t.
KD_APART void sum_pairs(const Work& work, long count) {
  const Sizes& z = work.z;
  const Backward& w = work.w;
  for (long s = 0; s < padded(count); s += kFloats) store(w.columns + s, Floats{});
  for (long t = count - 1; t >= 0; --t) {
    Floats sum = {};
    for (long s = 0; s <= t; s += kFloats) {
      const Floats g = load(w.powers + t * z.by_token + s) * load(w.scores + t * z.by_token + s);
      const Floats column = load(w.columns + s) + g;
      store(w.columns + s, column);
      sum += s + kFloats <= t ? column : first_of(column, t - s);
    }
    w.sums[t] = sum_of(sum);
  }
}

// dq, dk and dv of a chunk; what its rows read of the state before, and write to that behind.
KD_APART void find_rows(const Work& work, const Gates& g, long chunk, long count, const float* n,
                        bool has_past) {
  const Sizes& z = work.z;
  const Backward& w = work.w;
  const long all = padded(count), at = work.head * z.s + chunk * z.chunk;
  for (long t = 0; t < all; ++t) {
    float* const row = w.dq + t * z.by_qk;
    w.from_past[t] = 0;
    if (!has_past) continue;
    blend(row, g.past[t], n, g.past[t] * w.dr[t], z.rows_qk);
    w.from_past[t] = dot(w.q + t * z.by_qk, row, z.rows_qk);
  }
  multiply({w.dq, z.by_qk, all, z.rows_qk, w.k, z.by_qk, all}, Left<false>{w.powers, z.by_token},
           Part::before, has_past);
  store_block((T*)work.a->outputs[0] + at * z.qk, w.dq, count, z.qk,
              1 / __builtin_sqrtf(float(z.qk)));
  multiply({w.dk, z.by_qk, all, z.rows_qk, w.dc_t, z.by_qk, z.hv}, Left<false>{w.v, z.by_hv},
           Part::all, 0);
  multiply({w.dv, z.by_hv, all, z.rows_hv, w.dc, z.by_hv, z.qk}, Left<false>{w.k, z.by_qk},
           Part::all, 0);
  for (long s = 0; s < all; ++s) {
    float* const row = w.dk + s * z.by_qk;
    blend(row, w.shares[s], w.dn, w.shares[s], z.rows_qk);
    scale(w.dv + s * z.by_hv, w.shares[s], z.rows_hv);
    w.to_state[s] = dot(w.k + s * z.by_qk, row, z.rows_qk);
  }
  multiply({w.dk, z.by_qk, all, z.rows_qk, w.q, z.by_qk, all}, Left<true>{w.powers, z.by_token},
           Part::after, 1);
  multiply({w.dv, z.by_hv, all, z.rows_hv, w.dh, z.by_hv, all}, Left<true>{w.weighted, z.by_token},
           Part::after, 1);
  store_block((T*)work.a->outputs[1] + at * z.qk, w.dk, count, z.qk, 1);
  store_block((T*)work.a->outputs[2] + at * z.hv, w.dv, count, z.hv, 1);
}

// What of the state before the chunk reaches that behind it, times the cotangent of the latter.
KD_APART double passing(const Work& work, float past, const float* c, const float* n) {
  const Sizes& z = work.z;
  double sum = double(dot(work.w.dn, n, z.rows_qk));
  for (long d = 0; d < z.qk; ++d)
    sum += double(dot(work.w.dc + d * z.by_hv, c + d * z.by_hv, z.rows_hv));
  return past == 0 ? 0 : double(past) * sum;
}

// di and df. `carry`: the cotangent of m behind the chunk, and of m before it in return.
KD_APART void find_gate_rows(const Work& work, const Gates& g, long chunk, long count,
                             double through, double& carry) {
  const Backward& w = work.w;
  const long at = work.head * work.z.s + chunk * work.z.chunk;
  const bool sigmoid = work.a->dims[KD_DIM_siging];
  float* const di = (float*)work.a->outputs[3] + at;
  float* const df = (float*)work.a->outputs[4] + at;
  float written = 0;  // to the state behind, by tokens before
  for (long s = 0; s < count; written += w.to_state[s++]) w.written[s] = written;
  double over = through;
  for (long t = count - 1; t >= 0; --t) {
    over += double(w.from_past[t]);
    double of_i = double(w.columns[t]) + double(w.to_state[t]);
    double of_f = over + double(w.sums[t]) + double(w.written[t]);
    carry += double(w.dm[t]);
    if (g.turn[t] == kInput)
      of_i += carry, carry = 0;
    else if (g.turn[t] == kPast)
      of_f += carry;
    di[t] = float(of_i), df[t] = float(of_f);
  }
  for (long t = 0; t < count; t += kFloats) {
    float x[2][kFloats] = {};
    for (long j = 0; j < kFloats && t + j < count; ++j) {
      x[0][j] = work.numbers_of(3, chunk)[t + j];
      x[1][j] = work.numbers_of(4, chunk)[t + j];
    }
    store(x[0], slope_of_log_sigmoid(load(x[0])));
    store(x[1], slope_of_log_sigmoid(load(x[1])));
    for (long j = 0; j < kFloats && t + j < count; ++j) {
      if (sigmoid) di[t + j] *= x[0][j];
      df[t + j] *= x[1][j];
    }
  }
}

// One chunk, from the cotangents of the state behind it to those of the state before it. Returns
// the sum over that state of itself times its cotangent.
static double run_chunk(const Work& work, long chunk, const float* c, double& carry, bool is_last) {
  const Sizes& z = work.z;
  const Backward& w = work.w;
  const long count = work.count_of(chunk), all = padded(count);
  const float* const n = c + z.rows_qk * z.by_hv;
  const Gates g = work.gates_of(chunk);
  const bool has_past = chunk > 0 || work.has_state();
  open_chunk(work, chunk, count, c, has_past);
  const float past = find_shares(g, count, w.shares);
  find_powers(work, g, count, n, has_past);
  sum_pairs(work, count);
  find_rows(work, g, chunk, count, n, has_past);
  const double through = has_past ? passing(work, past, c, n) : 0;
  if (is_last && work.a->dims[KD_DIM_normalizer_grad] && !work.a->dims[KD_DIM_siging]) {
    carry = double(*work.state_of(11, 1)) - through;
    for (long s = 0; s < count; ++s) carry -= double(w.to_state[s]);
  }
  find_gate_rows(work, g, chunk, count, through, carry);
  double before = through;
  for (long t = 0; t < count; ++t) before += double(w.from_past[t]);
  scale_rows(w.q, z.by_qk, z.rows_qk, g.past, all);
  multiply({w.dc, z.by_hv, z.rows_qk, z.rows_hv, w.dh, z.by_hv, count}, Left<true>{w.q, z.by_qk},
           Part::all, past);
  scale(w.dn, past, z.rows_qk);
  for (long t = 0; t < count; ++t) blend(w.dn, 1, w.q + t * z.by_qk, w.dr[t], z.rows_qk);
  return before;
}

static void run_head(const Work& work) {
  const Sizes& z = work.z;
  const Backward& w = work.w;
  run_forward(work);
  load_floats(w.dc, work.state_of(9, z.qk * z.hv), z.qk, z.hv);
  load_row(w.dn, work.state_of(10, z.qk), z.qk);
  double carry = 0, before = 0;
  for (long end = z.chunks; end > 0;) {
    const long first = (end - 1) / work.every * work.every;
    const float* const states = reopen(work, first, end);
    for (long chunk = end - 1; chunk >= first; --chunk)
      before = run_chunk(work, chunk, states + (chunk - first) * floats_of_state(z), carry,
                         chunk + 1 == z.chunks);
    end = first;
  }
  if (!work.has_state()) return;
  store_floats((float*)work.a->outputs[5] + work.head * z.qk * z.hv, w.dc, z.qk, z.hv, 1);
  store_floats((float*)work.a->outputs[6] + work.head * z.qk, w.dn, 1, z.qk, 1);
  ((float*)work.a->outputs[7])[work.head] =
      work.a->dims[KD_DIM_siging] ? 0.0f : float(before + carry);
}

extern "C" void mlx_kd_mlstm_chunkwise_vjp(const kd_arguments* a, long begin, long end) {
  constexpr long kLow = (1 << 20) - 1;
  const Sizes z =
      sizes_of(a->dims[KD_DIM_S], a->stage & kLow, a->dims[KD_DIM_DHQK], a->dims[KD_DIM_DHHV]);
  const long every = a->stage >> 40, heads = a->stage >> 20 & kLow;
  Backward w;
  const long floats = open_backward(z, every, nullptr, w);
  open_backward(z, every, (float*)a->scratch[0] + begin / heads * floats, w);
  for (long head = begin; head < end; ++head) run_head({a, z, w, head, every});
}
