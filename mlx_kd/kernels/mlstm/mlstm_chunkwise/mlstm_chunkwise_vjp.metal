// mlstm_chunkwise_vjp: the gradient of mlstm_chunkwise, by the formulas at the head of mlstm_chunkwise_vjp.cpu.cpp.
//
// mlx_kd_mlstm_gates, mlx_kd_mlstm_states: as forward.
// mlx_kd_mlstm_rows: a threadgroup takes ROWS tokens t of a chunk: 1 / (N + eps), dr, dm and dq; scratch2 gets M, P and
// G of their pairs.
// mlx_kd_mlstm_cotangents: a thread takes ROWS rows of a column of the memory's cotangent, from the last chunk to the
// first; scratch3 gets those behind each chunk.
// mlx_kd_mlstm_columns: a threadgroup takes ROWS tokens s of a chunk: dk and dv.
// mlx_kd_mlstm_between: a threadgroup takes a chunk: what passes through it, and the pairs on both sides of a token.
// mlx_kd_mlstm_chunkwise_vjp: a thread takes a head, from the last token to the first: di, df and dm0.
//
// scratch0: the gates (heads, S, GATE_FLOATS), then numbers of the tokens (heads, S, ROW_FLOATS), then rows (heads, S,
// DHQK). scratch1, scratch3: (heads, chunks, DHQK, DHHV + 1). scratch2: (heads, S, 3, chunk). stage_index: tokens of a
// chunk, at most CHUNK.
#include <metal_stdlib>
using namespace metal;

#ifndef KD_DTYPE
#define KD_DTYPE 1  // of the arrays: 0 float, 1 half, 2 bfloat
#endif
#ifndef KD_ALIGNED
#define KD_ALIGNED 1  // 0: arrays start anywhere, 1: at a multiple of 16 bytes
#endif
#ifndef CHUNK
#define CHUNK 64  // tokens of a chunk at most
#endif
#ifndef ROWS
#define ROWS 4  // tokens of a threadgroup, and rows of the memory of a thread
#endif
#ifndef THREADS
#define THREADS 128  // of a threadgroup: a multiple of 32
#endif

#define VEC 1
#include "../../common/packs.metal.h"
#include "../gates.metal.h"
#include "states.metal.h"

#define ROW_FLOATS 8
#define INVERSE 0
#define DR 1
#define DM 2
#define FROM_PAST 3
#define TO_STATE 4
#define COLUMN 5
#define OVER 6
#define THROUGH 7  // of a chunk, at its first token

[[kernel]] void mlx_kd_mlstm_gates(
    const device float* i [[buffer(0)]],
    const device float* f [[buffer(1)]],
    const device float* m0 [[buffer(2)]],
    device float* scratch0 [[buffer(3)]],
    constant int& S [[buffer(4)]],
    constant int& heads [[buffer(5)]],
    constant int& siging [[buffer(6)]],
    constant int& has_state [[buffer(7)]],
    constant int& stage_index [[buffer(8)]],
    uint3 thread_position_in_grid [[thread_position_in_grid]]) {
  const uint head = thread_position_in_grid.x;
  if (head >= uint(heads)) return;
  const ulong from = ulong(head) * ulong(S);
  float rest = 0.0f;
  find_gates(i + from, f + from, scratch0 + from * GATE_FLOATS, S, stage_index, has_state != 0 ? m0[head] : 0.0f,
             siging != 0, rest);
}

[[kernel]] void mlx_kd_mlstm_states(
    const device T* k [[buffer(0)]],
    const device T* v [[buffer(1)]],
    const device float* c0 [[buffer(2)]],
    const device float* n0 [[buffer(3)]],
    device float* scratch0 [[buffer(4)]],
    device float* scratch1 [[buffer(5)]],
    constant int& S [[buffer(6)]],
    constant int& heads [[buffer(7)]],
    constant int& DHQK [[buffer(8)]],
    constant int& DHHV [[buffer(9)]],
    constant int& has_state [[buffer(10)]],
    constant int& stage_index [[buffer(11)]],
    uint3 thread_position_in_grid [[thread_position_in_grid]]) {
  const uint columns = uint(DHHV) + 1;
  const uint blocks = (uint(DHQK) + ROWS - 1) / ROWS;
  const uint head = thread_position_in_grid.x / (columns * blocks);
  if (head >= uint(heads)) return;
  const ulong from = ulong(head) * ulong(S);
  float sums[ROWS];
  find_states(k + from * ulong(DHQK), v + from * ulong(DHHV), c0 + ulong(head) * ulong(DHQK) * ulong(DHHV),
              n0 + ulong(head) * ulong(DHQK), scratch0 + from * GATE_FLOATS,
              scratch1 + state_at(head, 0, S, stage_index, DHQK, DHHV), sums, S, stage_index, DHQK, DHHV,
              int(thread_position_in_grid.x / columns % blocks) * ROWS, int(thread_position_in_grid.x % columns),
              has_state != 0);
}

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_mlstm_rows(
    const device T* q [[buffer(0)]],
    const device T* k [[buffer(1)]],
    const device T* v [[buffer(2)]],
    const device T* dh [[buffer(3)]],
    device T* dq [[buffer(4)]],
    device float* scratch0 [[buffer(5)]],
    device float* scratch1 [[buffer(6)]],
    device float* scratch2 [[buffer(7)]],
    constant float& eps [[buffer(8)]],
    constant int& S [[buffer(9)]],
    constant int& heads [[buffer(10)]],
    constant int& DHQK [[buffer(11)]],
    constant int& DHHV [[buffer(12)]],
    constant int& siging [[buffer(13)]],
    constant int& normalize [[buffer(14)]],
    constant int& normalizer_grad [[buffer(15)]],
    constant int& stage_index [[buffer(16)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup float scores[ROWS * CHUNK];
  threadgroup float weights[ROWS * CHUNK];
  threadgroup float along[ROWS * CHUNK];  // dh . v, then P
  threadgroup float inverse[ROWS];
  threadgroup float dr[ROWS];
  const Place p = place_of(threadgroup_position_in_grid.x, S, stage_index);
  if (p.first >= p.count) return;
  const int rows = min(ROWS, p.count - p.first);
  const int last = p.first + rows;
  const ulong row = p.token + ulong(p.first);
  const ulong all = ulong(heads) * ulong(S);
  const device float* tokens = scratch0 + p.token * GATE_FLOATS;
  device float* numbers = scratch0 + all * GATE_FLOATS + row * ROW_FLOATS;
  device float* x = scratch0 + all * (GATE_FLOATS + ROW_FLOATS) + row * ulong(DHQK);
  const device float* state = scratch1 + state_at(p.head, p.chunk, S, stage_index, DHQK, DHHV);
  const device T* queries = q + row * ulong(DHQK);
  const device T* keys = k + p.token * ulong(DHQK);
  const device T* values = v + p.token * ulong(DHHV);
  const device T* given = dh + row * ulong(DHHV);
  const float by = precise::rsqrt(float(DHQK));

  for (int e = int(thread_index_in_threadgroup); e < rows * last; e += THREADS) {
    const int r = e % rows;
    const int s = e / rows;
    float score = 0.0f;
    float sum = 0.0f;
    for (int d = 0; d < DHQK; ++d) score += by * float(queries[r * DHQK + d]) * float(keys[s * DHQK + d]);
    for (int d = 0; d < DHHV; ++d) sum += float(given[r * DHHV + d]) * float(values[s * DHHV + d]);
    scores[r * CHUNK + s] = score;
    weights[r * CHUNK + s] = weight_of(tokens, p.first + r, s);
    along[r * CHUNK + s] = sum;
  }
  for (int e = int(thread_index_in_threadgroup); e < rows * DHQK; e += THREADS) {
    const int r = e / DHQK;
    const int d = e % DHQK;
    float sum = 0.0f;
    if (tokens[(p.first + r) * GATE_FLOATS + PAST] != 0.0f)
      for (int column = 0; column < DHHV; ++column)
        sum += state[d * (DHHV + 1) + column] * float(given[r * DHHV + column]);
    x[e] = sum;
  }
  threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);

  for (int r = int(simdgroup_index_in_threadgroup); r < rows; r += THREADS / 32) {
    const float past = tokens[(p.first + r) * GATE_FLOATS + PAST];
    const float floor = tokens[(p.first + r) * GATE_FLOATS + FLOOR];
    float sum = 0.0f;
    float dots = 0.0f;
    for (int s = int(thread_index_in_simdgroup); s <= p.first + r; s += 32) {
      const float weight = weights[r * CHUNK + s];
      const float weighted = weight == 0.0f ? 0.0f : weight * scores[r * CHUNK + s];
      sum += weighted;
      dots += weighted * along[r * CHUNK + s];
    }
    float of_n = 0.0f;
    float of_x = 0.0f;
    for (int d = int(thread_index_in_simdgroup); d < DHQK && past != 0.0f; d += 32) {
      const float query = past * by * float(queries[r * DHQK + d]);
      of_n += query * state[d * (DHHV + 1) + DHHV];
      of_x += query * x[r * DHQK + d];
    }
    sum = simd_sum(sum);
    dots = simd_sum(dots);
    of_n = simd_sum(of_n);
    of_x = simd_sum(of_x);
    if (thread_index_in_simdgroup == 0) {
      const float total = sum + of_n;
      const float size = fabs(total);
      const float one = normalize != 0 ? 1.0f / ((size > floor || isnan(size) ? size : floor) + eps) : 1.0f;
      const bool is_true = normalize != 0 && normalizer_grad != 0;
      const float product = (dots + of_x) * one;  // dh . h
      const float of_r = is_true && size > floor ? (total < 0.0f ? product * one : -product * one) : 0.0f;
      inverse[r] = one;
      dr[r] = of_r;
      numbers[r * ROW_FLOATS + INVERSE] = one;
      numbers[r * ROW_FLOATS + DR] = of_r;
      numbers[r * ROW_FLOATS + DM] = is_true && siging == 0 ? -product * eps * one : 0.0f;
      numbers[r * ROW_FLOATS + FROM_PAST] = of_x * one + of_n * of_r;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  device float* pairs = scratch2 + row * 3 * ulong(stage_index);
  for (int e = int(thread_index_in_threadgroup); e < rows * last; e += THREADS) {
    const int r = e % rows;
    const int s = e / rows;
    const float weight = weights[r * CHUNK + s];
    const float score = scores[r * CHUNK + s];
    const float power = weight == 0.0f ? 0.0f : weight * (along[r * CHUNK + s] * inverse[r] + dr[r]);
    along[r * CHUNK + s] = power;
    device float* pair = pairs + r * 3 * stage_index + s;
    pair[0] = weight == 0.0f ? 0.0f : weight * score;
    pair[stage_index] = power;
    pair[2 * stage_index] = power == 0.0f ? 0.0f : power * score;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  for (int e = int(thread_index_in_threadgroup); e < rows * DHQK; e += THREADS) {
    const int r = e / DHQK;
    const int d = e % DHQK;
    const float past = tokens[(p.first + r) * GATE_FLOATS + PAST];
    float sum = past == 0.0f ? 0.0f : past * (x[e] * inverse[r] + dr[r] * state[d * (DHHV + 1) + DHHV]);
    for (int s = 0; s <= p.first + r; ++s) sum += along[r * CHUNK + s] * float(keys[s * DHQK + d]);
    dq[row * ulong(DHQK) + e] = T(by * sum);
  }
}

[[kernel]] void mlx_kd_mlstm_cotangents(
    const device T* q [[buffer(0)]],
    const device T* dh [[buffer(1)]],
    const device float* dc [[buffer(2)]],
    const device float* dn [[buffer(3)]],
    device float* dc0 [[buffer(4)]],
    device float* dn0 [[buffer(5)]],
    device float* scratch0 [[buffer(6)]],
    device float* scratch3 [[buffer(7)]],
    constant int& S [[buffer(8)]],
    constant int& heads [[buffer(9)]],
    constant int& DHQK [[buffer(10)]],
    constant int& DHHV [[buffer(11)]],
    constant int& has_state [[buffer(12)]],
    constant int& stage_index [[buffer(13)]],
    uint3 thread_position_in_grid [[thread_position_in_grid]]) {
  const int columns = DHHV + 1;
  const uint blocks = (uint(DHQK) + ROWS - 1) / ROWS;
  const uint head = thread_position_in_grid.x / (uint(columns) * blocks);
  if (head >= uint(heads)) return;
  const int column = int(thread_position_in_grid.x % uint(columns));
  const int row = int(thread_position_in_grid.x / uint(columns) % blocks) * ROWS;
  const int rows = min(ROWS, DHQK - row);
  const ulong memory = ulong(head) * ulong(DHQK) * ulong(DHHV) + ulong(row * DHHV + column);
  const ulong vector = ulong(head) * ulong(DHQK) + ulong(row);
  const float by = precise::rsqrt(float(DHQK));
  float sums[ROWS];
  for (int r = 0; r < rows; ++r) sums[r] = column < DHHV ? dc[memory + ulong(r * DHHV)] : dn[vector + ulong(r)];
  const int chunks = (S + stage_index - 1) / stage_index;
  for (int at = chunks - 1; at >= 0; --at) {
    const int count = min(stage_index, S - at * stage_index);
    const ulong token = ulong(head) * ulong(S) + ulong(at * stage_index);
    const device float* gates = scratch0 + token * GATE_FLOATS;
    const device float* numbers = scratch0 + ulong(heads) * ulong(S) * GATE_FLOATS + token * ROW_FLOATS;
    device float* to = scratch3 + state_at(head, uint(at), S, stage_index, DHQK, DHHV);
    const float last = gates[(count - 1) * GATE_FLOATS + PAST];
    for (int r = 0; r < rows; ++r) {
      to[(row + r) * columns + column] = sums[r];
      sums[r] = last == 0.0f ? 0.0f : last * sums[r];
    }
    for (int t = 0; t < count; ++t) {
      const device float* of_row = numbers + t * ROW_FLOATS;
      const float past = gates[t * GATE_FLOATS + PAST];
      const float given = column < DHHV
                              ? of_row[INVERSE] * float(dh[(token + ulong(t)) * ulong(DHHV) + ulong(column)])
                              : of_row[DR];
      for (int r = 0; r < rows && past != 0.0f; ++r)
        sums[r] += past * by * float(q[(token + ulong(t)) * ulong(DHQK) + ulong(row + r)]) * given;
    }
  }
  for (int r = 0; r < rows && has_state != 0; ++r) {
    if (column < DHHV)
      dc0[memory + ulong(r * DHHV)] = sums[r];
    else
      dn0[vector + ulong(r)] = sums[r];
  }
}

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_mlstm_columns(
    const device T* q [[buffer(0)]],
    const device T* k [[buffer(1)]],
    const device T* v [[buffer(2)]],
    const device T* dh [[buffer(3)]],
    device T* dk [[buffer(4)]],
    device T* dv [[buffer(5)]],
    device float* scratch0 [[buffer(6)]],
    device float* scratch2 [[buffer(7)]],
    device float* scratch3 [[buffer(8)]],
    constant int& S [[buffer(9)]],
    constant int& heads [[buffer(10)]],
    constant int& DHQK [[buffer(11)]],
    constant int& DHHV [[buffer(12)]],
    constant int& stage_index [[buffer(13)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]]) {
  const Place p = place_of(threadgroup_position_in_grid.x, S, stage_index);
  if (p.first >= p.count) return;
  const int rows = min(ROWS, p.count - p.first);
  const ulong row = p.token + ulong(p.first);
  const ulong all = ulong(heads) * ulong(S);
  const device float* tokens = scratch0 + p.token * GATE_FLOATS;
  device float* numbers = scratch0 + all * GATE_FLOATS + p.token * ROW_FLOATS;
  device float* y = scratch0 + all * (GATE_FLOATS + ROW_FLOATS) + row * ulong(DHQK);
  const device float* behind = scratch3 + state_at(p.head, p.chunk, S, stage_index, DHQK, DHHV);
  const device float* pairs = scratch2 + p.token * 3 * ulong(stage_index);
  const device T* queries = q + p.token * ulong(DHQK);
  const device T* given = dh + p.token * ulong(DHHV);
  const float by = precise::rsqrt(float(DHQK));

  for (int e = int(thread_index_in_threadgroup); e < rows * DHQK; e += THREADS) {
    const int r = e / DHQK;
    const int d = e % DHQK;
    const int s = p.first + r;
    const float share = weight_of(tokens, p.count - 1, s);
    float sum = 0.0f;
    if (share != 0.0f) {
      sum = behind[d * (DHHV + 1) + DHHV];
      for (int column = 0; column < DHHV; ++column)
        sum += behind[d * (DHHV + 1) + column] * float(v[(row + ulong(r)) * ulong(DHHV) + ulong(column)]);
      sum *= share;
    }
    y[e] = sum;
    for (int t = s; t < p.count; ++t)
      sum += pairs[t * 3 * stage_index + stage_index + s] * by * float(queries[t * DHQK + d]);
    dk[row * ulong(DHQK) + ulong(e)] = T(sum);
  }
  for (int e = int(thread_index_in_threadgroup); e < rows * DHHV; e += THREADS) {
    const int r = e / DHHV;
    const int column = e % DHHV;
    const int s = p.first + r;
    const float share = weight_of(tokens, p.count - 1, s);
    float sum = 0.0f;
    for (int d = 0; d < DHQK && share != 0.0f; ++d)
      sum += float(k[(row + ulong(r)) * ulong(DHQK) + ulong(d)]) * behind[d * (DHHV + 1) + column];
    sum *= share;
    for (int t = s; t < p.count; ++t)
      sum += pairs[t * 3 * stage_index + s] * numbers[t * ROW_FLOATS + INVERSE] * float(given[t * DHHV + column]);
    dv[row * ulong(DHHV) + ulong(e)] = T(sum);
  }
  threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);

  for (int r = int(simdgroup_index_in_threadgroup); r < rows; r += THREADS / 32) {
    const int s = p.first + r;
    float written = 0.0f;
    float column = 0.0f;
    for (int d = int(thread_index_in_simdgroup); d < DHQK; d += 32)
      written += float(k[(row + ulong(r)) * ulong(DHQK) + ulong(d)]) * y[r * DHQK + d];
    for (int t = s + int(thread_index_in_simdgroup); t < p.count; t += 32)
      column += pairs[t * 3 * stage_index + 2 * stage_index + s];
    written = simd_sum(written);
    column = simd_sum(column);
    if (thread_index_in_simdgroup == 0) {
      numbers[s * ROW_FLOATS + TO_STATE] = written;
      numbers[s * ROW_FLOATS + COLUMN] = column;
    }
  }
}

#include "gradients_of_gates.metal.h"
