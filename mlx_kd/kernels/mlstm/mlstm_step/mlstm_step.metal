// mlstm_step: one token of mLSTM. c_next is c, updated in place.
//
// A thread takes a column of the memory of a head: it goes through its rows, updates them and adds them to h. The
// threads of a head's first threadgroup write n, one of them m.
//
// Grid: heads * ceil(DHHV / THREADS) * THREADS threads in x, threadgroup: THREADS.
#include <metal_stdlib>
using namespace metal;

#ifndef KD_DTYPE
#define KD_DTYPE 1  // of the arrays: 0 float, 1 half, 2 bfloat
#endif
#ifndef KD_ALIGNED
#define KD_ALIGNED 1  // 0: arrays start anywhere, 1: at a multiple of 16 bytes
#endif
#ifndef THREADS
#define THREADS 64  // of a threadgroup: columns of the memory
#endif

#define VEC 1
#include "../../common/packs.metal.h"
#include "../gates.metal.h"

struct Token {
  float past;
  float share;
  float m;
  float floor;
};
// The weights belong to m as it is stored.
static Token token_of(float i, float f, float m, bool sigmoid) {
  const float log_f = log_sigmoid(f);
  if (sigmoid) return Token{precise::exp(log_f), precise::exp(log_sigmoid(i)), 0.0f, 1.0f};
  const bool drops = log_f == -INFINITY;
  if (i == INFINITY) return Token{0.0f, 1.0f, i, 0.0f};
  if (m == INFINITY && (!drops || i == -INFINITY)) return Token{drops ? 0.0f : 1.0f, 0.0f, m, 0.0f};
  const Pair from_m = drops ? Pair{-INFINITY, 0.0f} : added(Pair{m, 0.0f}, log_f);
  if (from_m.high == -INFINITY && i == -INFINITY) return Token{0.0f, 0.0f, m, precise::exp(-m)};
  const float next = is_above(Pair{i, 0.0f}, from_m) || isnan(i) ? i : from_m.high;
  const Pair apart = added(from_m, -next);
  return Token{precise::exp(apart.high + apart.rest), precise::exp(i - next), next, precise::exp(-next)};
}

static float scaled(float by, float x) {
  return by == 0.0f ? 0.0f : by * x;
}

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_mlstm_step(
    const device T* q [[buffer(0)]],
    const device T* k [[buffer(1)]],
    const device T* v [[buffer(2)]],
    const device float* i [[buffer(3)]],
    const device float* f [[buffer(4)]],
    device float* c_next [[buffer(5)]],
    const device float* n [[buffer(6)]],
    const device float* m [[buffer(7)]],
    device T* h [[buffer(8)]],
    device float* n_next [[buffer(9)]],
    device float* m_next [[buffer(10)]],
    constant float& eps [[buffer(11)]],
    constant int& DHQK [[buffer(12)]],
    constant int& DHHV [[buffer(13)]],
    constant int& siging [[buffer(14)]],
    constant int& normalize [[buffer(15)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]]) {
  const uint blocks = (uint(DHHV) + THREADS - 1) / THREADS;
  const uint head = threadgroup_position_in_grid.x / blocks;
  const uint block = threadgroup_position_in_grid.x % blocks;
  const uint column = block * THREADS + thread_index_in_threadgroup;
  const Token token = token_of(i[head], f[head], m[head], siging != 0);
  const device T* query = q + ulong(head) * ulong(DHQK);
  const device T* key = k + ulong(head) * ulong(DHQK);
  const device float* old = n + ulong(head) * ulong(DHQK);
  const float by = precise::rsqrt(float(DHQK));
  if (block == 0) {
    for (uint d = thread_index_in_threadgroup; d < uint(DHQK); d += THREADS)
      n_next[ulong(head) * ulong(DHQK) + d] = token.past * old[d] + scaled(token.share, float(key[d]));
    if (thread_index_in_threadgroup == 0) m_next[head] = token.m;
  }
  if (column >= uint(DHHV)) return;
  const float value = float(v[ulong(head) * ulong(DHHV) + column]);
  device float* memory = c_next + ulong(head) * ulong(DHQK) * ulong(DHHV) + column;
  float sum = 0.0f;
  float r = 0.0f;
  for (int d = 0; d < DHQK; ++d) {
    const float share = scaled(token.share, float(key[d]));
    const float next = token.past * memory[ulong(d) * ulong(DHHV)] + share * value;
    memory[ulong(d) * ulong(DHHV)] = next;
    sum += by * float(query[d]) * next;
    r += by * float(query[d]) * (token.past * old[d] + share);
  }
  const float size = fabs(r);
  const float largest = size > token.floor || isnan(size) ? size : token.floor;
  h[ulong(head) * ulong(DHHV) + column] = T(normalize != 0 ? sum / (largest + eps) : sum);
}
