#include <metal_stdlib>
using namespace metal;

// One threadgroup a row, simdgroups first.
template <typename T>
[[kernel]] void row_sum(device const T* x [[buffer(0)]], device float* y [[buffer(1)]],
                        constant uint& n [[buffer(2)]], uint row [[threadgroup_position_in_grid]],
                        uint t [[thread_position_in_threadgroup]],
                        uint size [[threads_per_threadgroup]],
                        uint lane [[thread_index_in_simdgroup]],
                        uint sg [[simdgroup_index_in_threadgroup]],
                        uint sgs [[simdgroups_per_threadgroup]]) {
  threadgroup float partial[32];
  float sum = 0;
  for (uint i = t; i < n; i += size) sum += float(x[row * n + i]);
  sum = simd_sum(sum);
  if (lane == 0) partial[sg] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (sg == 0) {
    sum = simd_sum(lane < sgs ? partial[lane] : 0.0f);
    if (lane == 0) y[row] = sum;
  }
}
#define instantiate(name, type) \
  template [[host_name(name)]] [[kernel]] decltype(row_sum<type>) row_sum<type>;
instantiate("row_sum_f32", float)
instantiate("row_sum_f16", half)
instantiate("row_sum_bf16", bfloat)

kernel void tree_max(device const float* x, device float* y, uint t [[thread_index_in_threadgroup]],
                     uint g [[threadgroup_position_in_grid]], uint i [[thread_position_in_grid]],
                     uint size [[threads_per_threadgroup]]) {
  threadgroup float s[256];
  s[t] = x[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint k = size / 2; k > 0; k /= 2) {
    if (t < k) s[t] = max(s[t], s[t + k]);
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  if (t == 0) y[g] = s[0];
}

kernel void softmax(device const float* x, device float* y, constant uint& n,
                    uint row [[threadgroup_position_in_grid]],
                    uint t [[thread_position_in_threadgroup]]) {
  float most = -INFINITY;
  for (uint i = t; i < n; i += 32) most = max(most, x[row * n + i]);
  most = simd_max(most);
  float sum = 0;
  for (uint i = t; i < n; i += 32) sum += exp(x[row * n + i] - most);
  sum = simd_sum(sum);
  for (uint i = t; i < n; i += 32) y[row * n + i] = exp(x[row * n + i] - most) / sum;
}

kernel void rmsnorm(device const half* x, device const half* w, device half* y, constant uint& n,
                    constant float& eps, threadgroup float* partial [[threadgroup(0)]],
                    uint row [[threadgroup_position_in_grid]],
                    uint t [[thread_position_in_threadgroup]],
                    uint size [[threads_per_threadgroup]]) {
  float sum = 0;
  for (uint i = t; i < n; i += size) {
    float v = x[row * n + i];
    sum += v * v;
  }
  partial[t] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (t == 0) {
    float all = 0;
    for (uint i = 0; i < size; ++i) all += partial[i];
    partial[0] = rsqrt(all / n + eps);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float scale = partial[0];
  for (uint i = t; i < n; i += size) y[row * n + i] = half(float(x[row * n + i]) * scale) * w[i];
}

kernel void scan(device const uint* x, device uint* y, uint i [[thread_position_in_grid]],
                 uint t [[thread_position_in_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                 uint sg [[simdgroup_index_in_threadgroup]]) {
  threadgroup uint totals[8];
  uint v = simd_prefix_inclusive_sum(x[i]);
  if (lane == 31) totals[sg] = v;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  uint before = 0;
  for (uint k = 0; k < sg; ++k) before += totals[k];
  y[i] = before + v;
}

kernel void argmax(device const float* x, device uint* y, constant uint& n,
                   uint row [[threadgroup_position_in_grid]], uint lane [[thread_index_in_simdgroup]]) {
  float best = -INFINITY;
  uint at = 0;
  for (uint i = lane; i < n; i += 32)
    if (x[row * n + i] > best) best = x[row * n + i], at = i;
  for (ushort d = 16; d > 0; d /= 2) {
    float other = simd_shuffle_down(best, d);
    uint place = simd_shuffle_down(at, d);
    if (other > best || (other == best && place < at)) best = other, at = place;
  }
  if (lane == 0) y[row] = at;
}
