// qmatvec_gate_up: y = act(x Wg^T) * (x Wu^T) for few rows of x, quantised W as MLX stores it.
//
// mlx_kd_qmatvec_gate_up: of a call with a norm; a threadgroup normalises a row of x into scratch0 (M, K).
// mlx_kd_qmatvec_gate_up_rows: a threadgroup takes BLOCK rows of both matrices and XROWS rows of x, which its
// simdgroups share as products.metal.h says.
//
// Grids: M * THREADS threads in x; ceil(N / BLOCK) * ceil(M / XROWS) * THREADS threads in x.
// Threadgroups: THREADS.
#include <metal_stdlib>
using namespace metal;

#include "../weights/codes.metal.h"
#include "../rows/gated.metal.h"

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_qmatvec_gate_up(
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

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_qmatvec_gate_up_rows(
    const device T* x [[buffer(0)]],
    const device uint* w_gate [[buffer(1)]],
    const device uchar* scales_gate [[buffer(2)]],
    const device uchar* biases_gate [[buffer(3)]],
    const device uint* w_up [[buffer(4)]],
    const device uchar* scales_up [[buffer(5)]],
    const device uchar* biases_up [[buffer(6)]],
    device T* y [[buffer(7)]],
    device T* scratch0 [[buffer(8)]],
    constant int& M [[buffer(9)]],
    constant int& N [[buffer(10)]],
    constant int& K [[buffer(11)]],
    constant int& activation [[buffer(12)]],
    constant int& bits [[buffer(13)]],
    constant int& group [[buffer(14)]],
    constant int& mode [[buffer(15)]],
    constant int& has_norm [[buffer(16)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup float totals[2 * SIMDS * SUMS];
  const uint x_block = threadgroup_position_in_grid.x % x_blocks_of(uint(M));
  const uint block = threadgroup_position_in_grid.x / x_blocks_of(uint(M));
  const Place place =
      place_of(block, x_block, simdgroup_index_in_threadgroup, thread_index_in_simdgroup);
  const device T* rows = has_norm != 0 ? scratch0 : x;
  for (uint i = 0; i < 2; ++i) {  // the gate, then up
    const Matrix w = i == 0 ? matrix_of(w_gate, scales_gate, biases_gate)
                            : matrix_of(w_up, scales_up, biases_up);
    put_sums(products_of(w, uint(N), rows, uint(M), uint(K), format_of(bits, group, mode), place),
             place, uint(M), simdgroup_index_in_threadgroup, totals + i * SIMDS * SUMS);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint i = thread_index_in_threadgroup; i < RESULTS; i += THREADS) {
    const Result gate = result_of(i, block, x_block, uint(M), uint(N), totals);
    const Result up =
        result_of(i, block, x_block, uint(M), uint(N), totals + SIMDS * SUMS);
    if (gate.row < uint(N) && gate.x_row < uint(M))
      y[ulong(gate.x_row) * uint(N) + gate.row] = T(activated(gate.product, activation) * up.product);
  }
}
