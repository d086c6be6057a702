// qmatvec: y = x W^T (+ bias) (+ residual) for few rows of x, quantised W as MLX stores it.
//
// mlx_kd_qmatvec: of a call with a norm; a threadgroup normalises a row of x into scratch0 (M, K).
// mlx_kd_qmatvec_rows: a threadgroup takes BLOCK rows of W and XROWS rows of x, which its
// simdgroups share as products.metal.h says.
//
// Grids: M * THREADS threads in x; ceil(N / BLOCK) * ceil(M / XROWS) * THREADS threads in x.
// Threadgroups: THREADS.
#include <metal_stdlib>
using namespace metal;

#include "../weights/codes.metal.h"

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_qmatvec(
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

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_qmatvec_rows(
    const device T* x [[buffer(0)]],
    const device uint* w [[buffer(1)]],
    const device uchar* scales [[buffer(2)]],
    const device uchar* biases [[buffer(3)]],
    const device T* bias [[buffer(4)]],
    const device T* residual [[buffer(5)]],
    device T* y [[buffer(6)]],
    device T* scratch0 [[buffer(7)]],
    constant int& M [[buffer(8)]],
    constant int& N [[buffer(9)]],
    constant int& K [[buffer(10)]],
    constant int& bits [[buffer(11)]],
    constant int& group [[buffer(12)]],
    constant int& mode [[buffer(13)]],
    constant int& has_norm [[buffer(14)]],
    constant int& has_bias [[buffer(15)]],
    constant int& has_residual [[buffer(16)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup float totals[SIMDS * SUMS];
  const uint x_block = threadgroup_position_in_grid.x % x_blocks_of(uint(M));
  const uint block = threadgroup_position_in_grid.x / x_blocks_of(uint(M));
  const Place place =
      place_of(block, x_block, simdgroup_index_in_threadgroup, thread_index_in_simdgroup);
  const device T* rows = has_norm != 0 ? scratch0 : x;
  put_sums(products_of(matrix_of(w, scales, biases), uint(N), rows, uint(M), uint(K), format_of(bits, group, mode), place),
           place, uint(M), simdgroup_index_in_threadgroup, totals);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint i = thread_index_in_threadgroup; i < RESULTS; i += THREADS) {
    const Result one = result_of(i, block, x_block, uint(M), uint(N), totals);
    if (one.row < uint(N) && one.x_row < uint(M)) {
      const ulong at = ulong(one.x_row) * uint(N) + one.row;
      float value = one.product;
      if (has_bias != 0) value = float(T(value + float(bias[one.row])));
      if (has_residual != 0) value += float(residual[at]);
      y[at] = T(value);
    }
  }
}
