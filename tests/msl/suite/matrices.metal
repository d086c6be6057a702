#include <metal_stdlib>
using namespace metal;

// 8 x 8 tiles of C = A B, one simdgroup each.
template <typename T>
[[kernel]] void simd_gemm(device const T* a, device const T* b, device float* c, constant uint& n,
                          uint2 tile [[threadgroup_position_in_grid]]) {
  simdgroup_float8x8 sum = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
  simdgroup_matrix<T, 8, 8> left, right;
  for (uint k = 0; k < n; k += 8) {
    simdgroup_load(left, a + tile.y * 8 * n + k, n);
    simdgroup_load(right, b + k * n + tile.x * 8, n);
    simdgroup_multiply_accumulate(sum, left, right, sum);
  }
  simdgroup_store(sum, c + tile.y * 8 * n + tile.x * 8, n);
}
template [[host_name("simd_gemm_f32")]] kernel decltype(simd_gemm<float>) simd_gemm<float>;
template [[host_name("simd_gemm_f16")]] kernel decltype(simd_gemm<half>) simd_gemm<half>;

kernel void tiled_gemm(device const float* a, device const float* b, device float* c,
                       constant uint& n, uint2 at [[thread_position_in_grid]],
                       uint2 t [[thread_position_in_threadgroup]]) {
  threadgroup float left[16][16], right[16][17];
  float sum = 0;
  for (uint k = 0; k < n; k += 16) {
    left[t.y][t.x] = a[at.y * n + k + t.x];
    right[t.y][t.x] = b[(k + t.y) * n + at.x];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint j = 0; j < 16; ++j) sum = fma(left[t.y][j], right[j][t.x], sum);
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  c[at.y * n + at.x] = sum;
}

// y = W x, W in 4 bits with a scale and a bias a group of 32.
kernel void matvec_q4(device const uint* w, device const half* scales, device const half* biases,
                      device const float* x, device float* y, constant uint& n,
                      uint row [[threadgroup_position_in_grid]],
                      uint lane [[thread_index_in_simdgroup]]) {
  float sum = 0;
  for (uint word = lane; word < n / 8; word += 32) {
    uint bits = w[row * (n / 8) + word];
    uint group = row * (n / 32) + word / 4;
    for (uint k = 0; k < 8; ++k) {
      float q = extract_bits(bits, 4 * k, 4u);
      sum += (q * float(scales[group]) + float(biases[group])) * x[8 * word + k];
    }
  }
  sum = simd_sum(sum);
  if (lane == 0) y[row] = sum;
}
