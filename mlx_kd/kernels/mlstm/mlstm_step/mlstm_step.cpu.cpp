// mlstm_step: one token of mLSTM.
//
// inputs q, k (heads, DHQK), v (heads, DHHV), and as float i, f (heads), c (heads, DHQK, DHHV), n
// (heads, DHQK), m (heads); outputs h (heads, DHHV) and c_next, which is c, n_next, m_next. A unit
// is BLOCK columns of the memory of a head: it goes through its rows once, updates them and adds
// them to h. The first unit of a head writes n and m.
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef VEC
#define VEC 16  // bytes of a vector of floats
#endif
#ifndef BLOCK
#define BLOCK 64  // columns of a unit: a multiple of 16
#endif
#ifndef PREFETCH
#define PREFETCH 4  // rows ahead that are fetched
#endif

#include "../../common/kd_arguments.h"
#include "../numbers.cpu.h"

#ifndef KD_DIM_DHQK
#define KD_DIM_heads 0
#define KD_DIM_DHQK 1
#define KD_DIM_DHHV 2
#define KD_DIM_siging 3
#define KD_DIM_normalize 4
#define KD_SCALAR_eps 0
#endif

KD_INLINE float one_power(double x) {
  return power(Floats{} + float(x))[0];
}

struct Token {
  float past, share, m, floor;
};
// The weights belong to m as it is stored.
static Token token_of(float i, float f, float m, bool sigmoid) {
  const float log_f = log_sigmoid(Floats{} + f)[0];
  if (sigmoid)
    return {one_power(double(log_f)), one_power(double(log_sigmoid(Floats{} + i)[0])), 0, 1};
  const bool drops = log_f == -kInfinity;
  if (i == kInfinity) return {0, 1, i, 0};
  if (m == kInfinity && (!drops || i == -kInfinity)) return {drops ? 0.0f : 1.0f, 0, m, 0};
  const double from_m = drops ? -double(kInfinity) : double(log_f) + double(m);
  if (from_m == -double(kInfinity) && i == -kInfinity) {
    const float floor = any_power(Floats{} - m)[0];
    return {0, 0, m, floor};
  }
  const bool is_input = double(i) > from_m || i != i;
  const float next = is_input ? i : float(from_m);
  return {one_power(from_m - double(next)), one_power(double(i) - double(next)), next,
          any_power(Floats{} - next)[0]};
}

struct Head {
  const T *q, *k;
  const float* n;
  long qk;
  float by;
};
KD_INLINE float n_after(const Head& h, const Token& token, long d) {
  return token.past * h.n[d] + (token.share == 0 ? 0.0f : token.share * float(widen(h.k[d])));
}

// Columns [0, kVectors) of a block, with `stride` floats from a row to the next.
template <int kCount>
KD_INLINE void take_columns(const Head& h, const Token& token, const float* v, float* c,
                            long stride, float* row) {
  Floats value[kCount], sum[kCount] = {};
  KD_UNROLL
  for (int j = 0; j < kCount; ++j) value[j] = load(v + j * kFloats);
  for (long d = 0; d < h.qk; ++d, c += stride) {
    const float key = token.share == 0 ? 0.0f : token.share * float(widen(h.k[d]));
    const float query = h.by * float(widen(h.q[d]));
    if (PREFETCH > 0)
      for (int line = 0; line < kCount * kFloats; line += kLine)
        __builtin_prefetch(c + PREFETCH * stride + line, 1);
    KD_UNROLL
    for (int j = 0; j < kCount; ++j) {
      const Floats next = token.past * load(c + j * kFloats) + key * value[j];
      store(c + j * kFloats, next);
      sum[j] += query * next;
    }
  }
  KD_UNROLL
  for (int j = 0; j < kCount; ++j) store(row + j * kFloats, sum[j]);
}

static void take_some(const Head& h, const Token& token, const float* v, float* c, long stride,
                      long count, float* row) {
  for (long e = 0; e < count; ++e) row[e] = 0;
  for (long d = 0; d < h.qk; ++d, c += stride) {
    const float key = token.share == 0 ? 0.0f : token.share * float(widen(h.k[d]));
    const float query = h.by * float(widen(h.q[d]));
    for (long e = 0; e < count; ++e) {
      c[e] = token.past * c[e] + key * v[e];
      row[e] += query * c[e];
    }
  }
}

static void run_unit(const kd_arguments* a, long head, long column) {
  const long qk = a->dims[KD_DIM_DHQK], hv = a->dims[KD_DIM_DHHV];
  const auto number = [&](int port) { return ((const float*)a->inputs[port])[head]; };
  const Token token = token_of(number(3), number(4), number(7), a->dims[KD_DIM_siging]);
  const Head h = {(const T*)a->inputs[0] + head * qk, (const T*)a->inputs[1] + head * qk,
                  (const float*)a->inputs[6] + head * qk, qk, 1 / __builtin_sqrtf(float(qk))};
  float r = 0;
  for (long d = 0; d < qk; ++d) r += h.by * float(widen(h.q[d])) * n_after(h, token, d);
  const float size = r < 0 ? -r : r, eps = float(a->scalars[KD_SCALAR_eps]);
  const float largest = size > token.floor || size != size ? size : token.floor;
  const float inverse = a->dims[KD_DIM_normalize] ? 1 / (largest + eps) : 1.0f;
  const long count = hv - column < BLOCK ? hv - column : BLOCK;
  float v[BLOCK], row[BLOCK];
  for (long e = 0; e < count; ++e) v[e] = widen(((const T*)a->inputs[2])[head * hv + column + e]);
  float* const c = (float*)a->outputs[1] + head * qk * hv + column;
  if (count == BLOCK) {
    take_columns<BLOCK / kFloats>(h, token, v, c, hv, row);
  } else {
    long e = 0;
    for (; e + kFloats <= count; e += kFloats) take_columns<1>(h, token, v + e, c + e, hv, row + e);
    take_some(h, token, v + e, c + e, hv, count - e, row + e);
  }
  T* const to = (T*)a->outputs[0] + head * hv + column;
  for (long e = 0; e < count; ++e) to[e] = narrow(inverse * row[e]);
  if (column > 0) return;
  for (long d = 0; d < qk; ++d) ((float*)a->outputs[2])[head * qk + d] = n_after(h, token, d);
  ((float*)a->outputs[3])[head] = token.m;
}

extern "C" void mlx_kd_mlstm_step(const kd_arguments* a, long begin, long end) {
  const long blocks = (a->dims[KD_DIM_DHHV] + BLOCK - 1) / BLOCK;
  for (long unit = begin; unit < end; ++unit) run_unit(a, unit / blocks, unit % blocks * BLOCK);
}
