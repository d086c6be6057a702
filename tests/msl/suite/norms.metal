// Rows of a matrix: norms, softmax, sums by several paths.
#include <metal_stdlib>
using namespace metal;

// The sum over a threadgroup of at most 1,024 threads, for all of them.
inline float group_sum(float v, threadgroup float* partial, uint lane, uint sg, uint sgs) {
  v = simd_sum(v);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (lane == 0) partial[sg] = v;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float all = 0;
  for (uint k = 0; k < sgs; ++k) all += partial[k];
  return all;
}

#define ROW                                                                                  \
  uint row [[threadgroup_position_in_grid]], uint t [[thread_position_in_threadgroup]],      \
      uint size [[threads_per_threadgroup]], uint lane [[thread_index_in_simdgroup]],        \
      uint sg [[simdgroup_index_in_threadgroup]], uint sgs [[simdgroups_per_threadgroup]]

kernel void layernorm(device const float* x, device const float* w, device const float* b,
                      device float* y, constant uint& n, ROW) {
  threadgroup float partial[4];
  float sum = 0;
  for (uint i = t; i < n; i += size) sum += x[row * n + i];
  float mean = group_sum(sum, partial, lane, sg, sgs) / n;
  float squares = 0;
  for (uint i = t; i < n; i += size) squares += (x[row * n + i] - mean) * (x[row * n + i] - mean);
  float scale = rsqrt(group_sum(squares, partial, lane, sg, sgs) / n + 1e-5f);
  for (uint i = t; i < n; i += size) y[row * n + i] = (x[row * n + i] - mean) * scale * w[i] + b[i];
}

kernel void logsumexp(device const float* x, device float* y, constant uint& n, ROW) {
  threadgroup float most[4], sums[4];
  float top = -INFINITY;
  for (uint i = t; i < n; i += size) top = max(top, x[row * n + i]);
  top = simd_max(top);
  if (lane == 0) most[sg] = top;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint k = 0; k < sgs; ++k) top = max(top, most[k]);
  float sum = 0;
  for (uint i = t; i < n; i += size) sum += precise::exp(x[row * n + i] - top);
  sum = simd_sum(sum);
  if (lane == 0) sums[sg] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (t == 0) {
    sum = 0;
    for (uint k = 0; k < sgs; ++k) sum += sums[k];
    y[row] = top + precise::log(sum);
  }
}

// Largest and sum in one pass, then joined over a tree.
kernel void softmax_online(device const half* x, device half* y, constant uint& n, ROW) {
  threadgroup float2 state[64];
  float top = -INFINITY, sum = 0;
  for (uint i = t; i < n; i += size) {
    float v = x[row * n + i], next = max(top, v);
    sum = sum * fast::exp(top - next) + fast::exp(v - next);
    top = next;
  }
  state[t] = float2(top, sum);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint k = size / 2; k > 0; k /= 2) {
    if (t < k) {
      float2 a = state[t], b = state[t + k];
      float next = max(a.x, b.x);
      state[t] = float2(next, a.y * fast::exp(a.x - next) + b.y * fast::exp(b.x - next));
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  float2 all = state[0];
  for (uint i = t; i < n; i += size)
    y[row * n + i] = half(fast::exp(float(x[row * n + i]) - all.x) / all.y);
}

// Welford's count, mean and sum of squares, joined over a tree.
kernel void variance(device const float* x, device float* y, constant uint& n, ROW) {
  threadgroup float3 state[128];
  float3 own = float3(0);
  for (uint i = t; i < n; i += size) {
    own.x += 1;
    float gap = x[row * n + i] - own.y;
    own.y += gap / own.x;
    own.z += gap * (x[row * n + i] - own.y);
  }
  state[t] = own;
  for (uint k = 64; k > 0; k >>= 1) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (t < k) {
      float3 a = state[t], b = state[t + k];
      float count = max(a.x + b.x, 1.0f), gap = b.y - a.y;
      state[t] = float3(a.x + b.x, a.y + gap * b.x / count, a.z + b.z + gap * gap * a.x * b.x / count);
    }
  }
  if (t == 0) y[row] = state[0].z / state[0].x;
}

kernel void rmsnorm_residual(device const float* x, device const float* r, device const float* w,
                             device float* y, device float* sum_out, constant uint& n, ROW) {
  threadgroup float cache[300];
  threadgroup float partial[4];
  float squares = 0;
  for (uint i = t; i < n; i += size) {
    float v = x[row * n + i] + r[row * n + i];
    sum_out[row * n + i] = v;
    cache[i] = v;
    squares += v * v;
  }
  float scale = rsqrt(group_sum(squares, partial, lane, sg, sgs) / n + 1e-6f);
  for (uint i = t; i < n; i += size) y[row * n + i] = cache[i] * scale * w[i];
}

kernel void rope(device const float* x, device float* y, constant uint& dims, constant float& base,
                 constant int& offset, uint2 at [[thread_position_in_grid]]) {
  uint pairs = dims / 2;
  if (at.x >= pairs) return;
  float angle = float(int(at.y) + offset) * exp2(-float(at.x) / pairs * log2(base));
  float cosine, sine = sincos(angle, cosine);
  float a = x[at.y * dims + at.x], b = x[at.y * dims + at.x + pairs];
  y[at.y * dims + at.x] = a * cosine - b * sine;
  y[at.y * dims + at.x + pairs] = a * sine + b * cosine;
}

template <typename T>
[[kernel]] void glu(device const T* gate, device const T* up, device T* y,
                    uint i [[thread_position_in_grid]]) {
  float g = static_cast<float>(gate[i]);
  y[i] = static_cast<T>(g / (1.0f + exp(-g)) * static_cast<float>(up[i]));
}
template [[host_name("glu_bf16")]] [[kernel]] void glu<bfloat>(device const bfloat* gate, device const bfloat* up,
                                                    device bfloat* y, uint i [[thread_position_in_grid]]);
template [[host_name("glu_f16")]] [[kernel]] decltype(glu<half>) glu<half>;

// 16 columns a group, 16 threads a column.
kernel void column_sums(device const float* x, device float* y, constant uint2& size,
                        uint2 t [[thread_position_in_threadgroup]],
                        uint tile [[threadgroup_position_in_grid]]) {
  threadgroup float s[16][16];
  uint column = tile * 16 + t.x;
  float sum = 0;
  if (column < size.x)
    for (uint r = t.y; r < size.y; r += 16) sum += x[r * size.x + column];
  s[t.y][t.x] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (t.y == 0 && column < size.x) {
    for (uint k = 1; k < 16; ++k) sum += s[k][t.x];
    y[column] = sum;
  }
}

kernel void min_max(device const float* x, device float2* y, constant uint& n, ROW) {
  threadgroup float low[64], high[64];
  low[t] = INFINITY;
  high[t] = -INFINITY;
  for (uint i = t; i < n; i += size) {
    low[t] = min(low[t], x[row * n + i]);
    high[t] = max(high[t], x[row * n + i]);
  }
  for (uint k = 32; k > 0; k /= 2) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (t < k) {
      low[t] = min(low[t], low[t + k]);
      high[t] = max(high[t], high[t + k]);
    }
  }
  if (t == 0) y[row] = float2(low[0], high[0]);
}

// Sums that begin anew where a head flag stands.
kernel void segmented_scan(device const float* x, device const uchar* heads, device float* y,
                           uint t [[thread_position_in_threadgroup]]) {
  threadgroup float sums[128];
  threadgroup uchar flags[128];
  sums[t] = x[t];
  flags[t] = heads[t];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint d = 1; d < 128; d *= 2) {
    float sum = sums[t];
    uchar flag = flags[t];
    if (t >= d && !flag) {
      sum += sums[t - d];
      flag = flags[t - d];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    sums[t] = sum;
    flags[t] = flag;
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  y[t] = sums[t];
}

// The cosine between two rows: three sums at once.
kernel void cosine(device const float* a, device const float* b, device float* y, constant uint& n, ROW) {
  threadgroup packed_float3 partial[4];
  float3 sum = 0;
  for (uint i = t; i < n; i += size) {
    float u = a[row * n + i], v = b[row * n + i];
    sum += float3(u * v, u * u, v * v);
  }
  sum = simd_sum(sum);
  if (lane == 0) partial[sg] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (t == 0) {
    float3 all = 0;
    for (uint k = 0; k < sgs; ++k) all += float3(partial[k]);
    y[row] = all.x * rsqrt(all.y * all.z);
  }
}

// The two largest.
kernel void top2(device const float* x, device float2* y, constant uint& n, ROW) {
  threadgroup float2 best[64];
  float2 own = float2(-INFINITY);
  for (uint i = t; i < n; i += size) {
    float v = x[row * n + i];
    own = v > own.x ? float2(v, own.x) : float2(own.x, max(own.y, v));
  }
  best[t] = own;
  for (uint k = 32; k > 0; k /= 2) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (t < k) {
      float2 a = best[t], b = best[t + k];
      best[t] = a.x > b.x ? float2(a.x, max(a.y, b.x)) : float2(b.x, max(b.y, a.x));
    }
  }
  if (t == 0) y[row] = best[0];
}

kernel void count_above(device const float* x, device uint* y, constant uint& n, constant float& limit, ROW) {
  threadgroup uint counts[4];
  uint count = 0;
  for (uint i = t; i < n; i += size) count += x[row * n + i] > limit;
  count = simd_sum(count);
  if (lane == 0) counts[sg] = count;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (sg == 0) {
    uint all = simd_sum(lane < sgs ? counts[lane] : 0u);
    if (simd_is_first()) y[row] = all;
  }
}

kernel void running_product(device const float* x, device float* y, constant uint& n, ROW) {
  threadgroup float ends[4];
  float before = 1;
  for (uint start = 0; start < n; start += size) {
    uint i = start + t;
    float v = simd_prefix_inclusive_product(i < n ? x[row * n + i] : 1.0f);
    if (lane == 31) ends[sg] = v;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float all = before;
    for (uint k = 0; k < sgs; ++k) {
      if (k == sg) v *= all;
      all *= ends[k];
    }
    if (i < n) y[row * n + i] = v;
    before = all;
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
}
