#include <metal_stdlib>
using namespace metal;

// Sum, largest, smallest, product of small numbers: for every type that a simdgroup takes.
template <typename T>
[[kernel]] void simd_reduce(device const T* x, device float* y, uint i [[thread_position_in_grid]],
                            uint lane [[thread_index_in_simdgroup]],
                            uint g [[threadgroup_position_in_grid]]) {
  T v = x[i];
  float sum = float(simd_sum(v)), most = float(simd_max(v)), least = float(simd_min(v));
  float product = float(simd_product(T(lane < 5 ? 2 : 1)));
  if (simd_is_first()) {
    y[4 * g] = sum;
    y[4 * g + 1] = most;
    y[4 * g + 2] = least;
    y[4 * g + 3] = product;
  }
}
#define instantiate_reduce(type) \
  template [[host_name("simd_reduce_" #type)]] [[kernel]] decltype(simd_reduce<type>) simd_reduce<type>;
instantiate_reduce(int) instantiate_reduce(uint) instantiate_reduce(short) instantiate_reduce(ushort)
instantiate_reduce(char) instantiate_reduce(uchar) instantiate_reduce(float) instantiate_reduce(half)
instantiate_reduce(bfloat)

template <typename T>
[[kernel]] void simd_bits(device const T* x, device int* y, uint i [[thread_position_in_grid]]) {
  T v = x[i];
  y[i] = int(simd_and(T(v | T(64)))) + 256 * int(simd_or(T(v & T(15)))) + 65536 * int(simd_xor(T(v & T(63))));
}
template [[host_name("simd_bits_int")]] [[kernel]] decltype(simd_bits<int>) simd_bits<int>;
template [[host_name("simd_bits_ushort")]] [[kernel]] decltype(simd_bits<ushort>) simd_bits<ushort>;
template [[host_name("simd_bits_uchar")]] [[kernel]] decltype(simd_bits<uchar>) simd_bits<uchar>;

template <typename T>
[[kernel]] void simd_scans(device const T* x, device float* y, uint i [[thread_position_in_grid]],
                           uint lane [[thread_index_in_simdgroup]]) {
  T v = x[i];
  T few = T(lane % 8 == 0 ? 2 : 1);
  y[i] = float(simd_prefix_inclusive_sum(v)) + 2 * float(simd_prefix_exclusive_sum(v)) +
         float(simd_prefix_inclusive_product(few)) + 3 * float(simd_prefix_exclusive_product(few));
}
template [[host_name("simd_scans_float")]] [[kernel]] decltype(simd_scans<float>) simd_scans<float>;
template [[host_name("simd_scans_int")]] [[kernel]] decltype(simd_scans<int>) simd_scans<int>;
template [[host_name("simd_scans_half")]] [[kernel]] decltype(simd_scans<half>) simd_scans<half>;

kernel void simd_moves(device const float* x, device float* y, uint i [[thread_position_in_grid]],
                       ushort lane [[thread_index_in_simdgroup]]) {
  float v = x[i];
  float r = simd_shuffle(v, ushort(31 - lane)) + 2 * simd_shuffle_xor(v, 5) + 3 * simd_broadcast(v, 7);
  r += 5 * simd_shuffle_rotate_down(v, 3) + 7 * simd_shuffle_rotate_up(v, 9);
  r += 11 * simd_shuffle_and_fill_down(v, -v, 6) + 13 * simd_shuffle_and_fill_up(v, 2 * v, 2);
  float down = simd_shuffle_down(v, 4), up = simd_shuffle_up(v, 4);
  y[i] = r + (lane < 28 ? 17 * down : 0) + (lane >= 4 ? 19 * up : 0) + 23 * simd_broadcast_first(v);
}

kernel void simd_votes(device const int* x, device uint* y, uint i [[thread_position_in_grid]]) {
  bool odd = x[i] & 1;
  simd_vote vote = simd_ballot(odd);
  uint r = uint(ulong(vote)) ^ (vote.all() ? 1u : 0u) ^ (vote.any() ? 2u : 0u);
  r ^= simd_all(x[i] >= 0) ? 4u : 0u;
  r ^= simd_any(x[i] > 1000) ? 8u : 0u;
  r ^= uint(ulong(simd_active_threads_mask())) == 0xffffffffu ? 16u : 0u;
  y[i] = r ^ (simd_is_first() ? 32u : 0u);
}

kernel void quads(device const float* x, device float* y, uint i [[thread_position_in_grid]],
                  ushort lane [[thread_index_in_quadgroup]], uint q [[quadgroup_index_in_threadgroup]]) {
  float v = x[i];
  float r = quad_sum(v) + 2 * quad_max(v) + 3 * quad_min(v) + 5 * quad_product(v);
  r += 7 * quad_shuffle(v, ushort(3 - lane)) + 11 * quad_broadcast(v, 2) + 13 * quad_shuffle_xor(v, 1);
  r += quad_prefix_inclusive_sum(v) + 2 * quad_prefix_exclusive_sum(v);
  float down = quad_shuffle_down(v, 1), up = quad_shuffle_up(v, 1);
  r += (lane < 3 ? down : 0) + (lane > 0 ? up : 0);
  r += quad_shuffle_rotate_down(v, 1) + 2 * quad_shuffle_rotate_up(v, 1) + quad_broadcast_first(v);
  r += quad_all(v > 4) ? 100 : 0;
  r += quad_any(v > 30) ? 1000 : 0;
  y[i] = r + popcount(uint(ulong(quad_ballot(int(v) & 1)))) + float(q & 1);
}

kernel void simd_vectors(device const float4* x, device float4* y, uint i [[thread_position_in_grid]],
                         uint lane [[thread_index_in_simdgroup]]) {
  float4 v = x[i];
  short2 whole = short2(v.xy);
  short2 sum = simd_sum(whole);
  y[i] = simd_shuffle_xor(v, 1) + simd_max(v) + float4(float2(sum), float2(simd_broadcast(half2(whole), 3)));
}
