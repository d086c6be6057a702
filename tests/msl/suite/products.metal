// Products of matrices, attention, convolution, quantised weights.
#include <metal_stdlib>
#include <metal_simdgroup_matrix>
using namespace metal;

// 32 x 32 of C a group of four simdgroups, tiles of A and B in threadgroup memory.
template <typename T, typename U>
[[kernel]] void gemm_blocks(device const T* a, device const T* b, device U* c, constant uint& n,
                            uint2 tile [[threadgroup_position_in_grid]],
                            uint t [[thread_index_in_threadgroup]],
                            uint sg [[simdgroup_index_in_threadgroup]]) {
  threadgroup T left[32 * 16];
  threadgroup T right[16 * 32];
  simdgroup_matrix<float, 8, 8> sum[2][2];
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 2; ++j) sum[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
  uint top = (sg / 2) * 16, side = (sg % 2) * 16;
  for (uint k = 0; k < n; k += 16) {
    for (uint e = t; e < 512; e += 128) {
      left[e] = a[(tile.y * 32 + e / 16) * n + k + e % 16];
      right[e] = b[(k + e / 32) * n + tile.x * 32 + e % 32];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint kk = 0; kk < 16; kk += 8) {
      simdgroup_matrix<T, 8, 8> l[2], r[2];
      for (int i = 0; i < 2; ++i) {
        simdgroup_load(l[i], left + (top + 8 * i) * 16 + kk, 16);
        simdgroup_load(r[i], right + kk * 32 + side + 8 * i, 32);
      }
      for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 2; ++j) simdgroup_multiply_accumulate(sum[i][j], l[i], r[j], sum[i][j]);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 2; ++j) {
      simdgroup_matrix<U, 8, 8> out;
      out.thread_elements()[0] = U(sum[i][j].thread_elements()[0]);
      out.thread_elements()[1] = U(sum[i][j].thread_elements()[1]);
      simdgroup_store(out, c + (tile.y * 32 + top + 8 * i) * n + tile.x * 32 + side + 8 * j, n);
    }
}
template [[host_name("gemm_blocks_f32")]] [[kernel]] decltype(gemm_blocks<float, float>) gemm_blocks<float, float>;
template [[host_name("gemm_blocks_f16")]] [[kernel]] decltype(gemm_blocks<half, half>) gemm_blocks<half, half>;
template [[host_name("gemm_blocks_bf16")]] [[kernel]] decltype(gemm_blocks<bfloat, float>) gemm_blocks<bfloat, float>;

// 4 x 4 of C a thread, in vectors.
kernel void gemm_vectors(device const float4* a, device const float4* b, device float4* c, constant uint& n,
                         uint2 at [[thread_position_in_grid]], uint2 t [[thread_position_in_threadgroup]],
                         uint2 tile [[threadgroup_position_in_grid]]) {
  threadgroup float4 left[32][8], right[32][8];
  float4 sum[4] = {float4(0), float4(0), float4(0), float4(0)};
  uint quarter = n / 4;
  for (uint k = 0; k < n; k += 32) {
    for (uint r = t.y; r < 32; r += 8) {
      left[r][t.x] = a[(tile.y * 32 + r) * quarter + k / 4 + t.x];
      right[r][t.x] = b[(k + r) * quarter + tile.x * 8 + t.x];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint kk = 0; kk < 32; ++kk)
      for (uint r = 0; r < 4; ++r) sum[r] = fma(float4(left[4 * t.y + r][kk / 4][kk % 4]), right[kk][t.x], sum[r]);
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  for (uint r = 0; r < 4; ++r) c[(4 * at.y + r) * quarter + at.x] = sum[r];
}

// Tiles that are loaded and stored transposed, a diagonal, a product into half.
kernel void matrix_steps(device const float* a, device float* y, uint lane [[thread_index_in_simdgroup]]) {
  threadgroup float turned[64];
  simdgroup_float8x8 m, t, two(2.0f), r;
  simdgroup_load(m, a);
  simdgroup_load(t, a, 8, ulong2(0, 0), true);
  simdgroup_multiply(r, m, t);
  simdgroup_multiply_accumulate(r, two, m, r);
  simdgroup_store(r, turned, 8, ulong2(0, 0), true);
  simdgroup_barrier(mem_flags::mem_threadgroup);
  for (uint k = lane; k < 64; k += 32) y[k] = turned[k];
}

// One row of scores in threadgroup memory, softmax, then the mix of the values.
kernel void attention(device const float* q, device const float* k, device const float* v, device float* y,
                      constant uint2& sizes, uint row [[threadgroup_position_in_grid]],
                      uint t [[thread_position_in_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                      uint sg [[simdgroup_index_in_threadgroup]]) {
  threadgroup float scores[128];
  threadgroup float joined[2];
  uint keys = sizes.x, dims = sizes.y;
  for (uint j = t; j < keys; j += 64) {
    float sum = 0;
    for (uint d = 0; d < dims; ++d) sum += q[row * dims + d] * k[j * dims + d];
    scores[j] = sum * rsqrt(float(dims));
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (sg == 0) {
    float most = -INFINITY, sum = 0;
    for (uint j = lane; j < keys; j += 32) most = max(most, scores[j]);
    most = simd_max(most);
    for (uint j = lane; j < keys; j += 32) sum += exp(scores[j] - most);
    sum = simd_sum(sum);
    if (lane == 0) joined[0] = most, joined[1] = sum;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint d = t; d < dims; d += 64) {
    float sum = 0;
    for (uint j = 0; j < keys; ++j) sum += exp(scores[j] - joined[0]) * v[j * dims + d];
    y[row * dims + d] = sum / joined[1];
  }
}

// The same in one pass, a simdgroup a row, two dims a lane.
kernel void attention_online(device const half2* q, device const half2* k, device const half2* v,
                             device float2* y, constant uint& keys, uint row [[threadgroup_position_in_grid]],
                             uint lane [[thread_index_in_simdgroup]]) {
  float2 own = float2(q[row * 32 + lane]) * 0.125f, mix = 0;
  float most = -INFINITY, all = 0;
  for (uint j = 0; j < keys; ++j) {
    float score = simd_sum(dot(own, float2(k[j * 32 + lane])));
    float next = max(most, score), keep = exp(most - next), weight = exp(score - next);
    mix = mix * keep + weight * float2(v[j * 32 + lane]);
    all = all * keep + weight;
    most = next;
  }
  y[row * 32 + lane] = mix / all;
}

kernel void matvec_q8(device const char4* w, device const float* scales, device const float4* x, device float* y,
                      constant uint& n, uint row [[thread_position_in_grid]]) {
  float sum = 0;
  for (uint k = 0; k < n / 4; ++k) {
    char4 q = w[row * (n / 4) + k];
    sum += scales[row * (n / 64) + k / 16] * dot(float4(q), x[k]);
  }
  y[row] = sum;
}

// Two bits a weight; the four groups of threads share a row by a tree.
kernel void matvec_q2(device const uint* w, device const half* scales, device const half* biases,
                      device const float* x, device float* y, constant uint& n,
                      uint row [[threadgroup_position_in_grid]], uint t [[thread_position_in_threadgroup]]) {
  threadgroup float s[64];
  float sum = 0;
  for (uint word = t; word < n / 16; word += 64) {
    uint bits = w[row * (n / 16) + word], group = row * (n / 64) + word / 4;
    float scale = scales[group], bias = biases[group];
    for (uint k = 0; k < 16; ++k) sum += (float((bits >> (2 * k)) & 3) * scale + bias) * x[16 * word + k];
  }
  s[t] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint k = 32; k > 0; k /= 2) {
    if (t < k) s[t] += s[t + k];
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  if (t == 0) y[row] = s[0];
}

// 5 taps in two dimensions; the weights wait in threadgroup memory.
kernel void convolve(device const float* x, device const float* w, device float* y, constant uint2& size,
                     uint2 at [[thread_position_in_grid]], uint t [[thread_index_in_threadgroup]]) {
  threadgroup float taps[25];
  if (t < 25) taps[t] = w[t];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (at.x >= size.x || at.y >= size.y) return;
  float sum = 0;
  for (int dy = -2; dy <= 2; ++dy)
    for (int dx = -2; dx <= 2; ++dx) {
      int2 from = int2(at) + int2(dx, dy);
      if (from.x >= 0 && from.y >= 0 && from.x < int(size.x) && from.y < int(size.y))
        sum += taps[(dy + 2) * 5 + dx + 2] * x[from.y * int(size.x) + from.x];
    }
  y[at.y * size.x + at.x] = sum;
}
