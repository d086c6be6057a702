// matvec_qkv: queries, keys and values of few rows of x, W as MLX stores it.
//
// mlx_kd_matvec_qkv: of a call with a norm; a threadgroup normalises a row of x into scratch0 (M, K).
// mlx_kd_matvec_qkv_rows: a threadgroup takes BLOCK rows of one matrix and XROWS rows of x, which its
// simdgroups share as products.metal.h says.
//
// Grids: M * THREADS threads in x; blocks * ceil(M / XROWS) * THREADS threads in x, with blocks =
// ceil(Nq / BLOCK) + ceil(Nk / BLOCK) + ceil(Nv / BLOCK). Threadgroups: THREADS.
#include <metal_stdlib>
using namespace metal;

#include "../weights/elements.metal.h"

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_matvec_qkv(
    const device T* x [[buffer(0)]],
    const device T* norm [[buffer(1)]],
    device T* scratch0 [[buffer(2)]],
    constant int& K [[buffer(3)]],
    constant float& eps [[buffer(4)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup float partial[SIMDS];
  const ulong row = ulong(threadgroup_position_in_grid.x) * uint(K);
  normalise(x + row, norm, uint(K), eps, scratch0 + row, partial, thread_index_in_threadgroup,
            thread_index_in_simdgroup, simdgroup_index_in_threadgroup);
}

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_matvec_qkv_rows(
    const device T* x [[buffer(0)]],
    const device T* wq [[buffer(1)]],
    const device T* wk [[buffer(2)]],
    const device T* wv [[buffer(3)]],
    const device T* bias_q [[buffer(4)]],
    const device T* bias_k [[buffer(5)]],
    const device T* bias_v [[buffer(6)]],
    device T* q [[buffer(7)]],
    device T* k [[buffer(8)]],
    device T* v [[buffer(9)]],
    device T* scratch0 [[buffer(10)]],
    constant int& M [[buffer(11)]],
    constant int& Nq [[buffer(12)]],
    constant int& Nk [[buffer(13)]],
    constant int& Nv [[buffer(14)]],
    constant int& K [[buffer(15)]],
    constant int& has_norm [[buffer(16)]],
    constant int& has_bias [[buffer(17)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup float totals[SIMDS * SUMS];
  const uint x_block = threadgroup_position_in_grid.x % x_blocks_of(uint(M));
  uint block = threadgroup_position_in_grid.x / x_blocks_of(uint(M));
  const bool of_q = block < blocks_of(uint(Nq));
  if (!of_q) block -= blocks_of(uint(Nq));
  const bool of_k = !of_q && block < blocks_of(uint(Nk));
  if (!of_q && !of_k) block -= blocks_of(uint(Nk));
  const uint N = uint(of_q ? Nq : of_k ? Nk : Nv);
  const device T* bias = of_q ? bias_q : of_k ? bias_k : bias_v;
  device T* y = of_q ? q : of_k ? k : v;
  const device T* w = of_q ? wq : of_k ? wk : wv;
  const Place place =
      place_of(block, x_block, simdgroup_index_in_threadgroup, thread_index_in_simdgroup);
  const device T* rows = has_norm != 0 ? scratch0 : x;
  put_sums(products_of(w, N, rows, uint(M), uint(K), place), place,
           uint(M), simdgroup_index_in_threadgroup, totals);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint i = thread_index_in_threadgroup; i < RESULTS; i += THREADS) {
    const Result one = result_of(i, block, x_block, uint(M), N, totals);
    if (one.row < N && one.x_row < uint(M)) {
      const float added = has_bias != 0 ? float(bias[one.row]) : 0.0f;
      y[ulong(one.x_row) * N + one.row] = T(has_bias != 0 ? one.product + added : one.product);
    }
  }
}
