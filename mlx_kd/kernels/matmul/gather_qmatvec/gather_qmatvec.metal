// gather_qmatvec: y = x W^T (+ bias) of few tokens, W that of each
// chosen expert, quantised as MLX stores it.
//
// A threadgroup takes BLOCK rows of W of one pair of token and expert, which its simdgroups share as
// products.metal.h says. Results of an id that is not below E are NaN, and nothing is read for them.
//
// Grid: M * A * ceil(N / BLOCK) * THREADS threads in x. Threadgroups: THREADS.
#include <metal_stdlib>
using namespace metal;

#define XROWS 1
#include "../weights/codes.metal.h"
#include "../experts/expert_codes.metal.h"

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_gather_qmatvec(
    const device T* x [[buffer(0)]],
    const device uint* ids [[buffer(1)]],
    const device uint* w [[buffer(2)]],
    const device uchar* scales [[buffer(3)]],
    const device uchar* biases [[buffer(4)]],
    const device T* bias [[buffer(5)]],
    device T* y [[buffer(6)]],
    constant int& A [[buffer(7)]],
    constant int& E [[buffer(8)]],
    constant int& N [[buffer(9)]],
    constant int& K [[buffer(10)]],
    constant int& bits [[buffer(11)]],
    constant int& group [[buffer(12)]],
    constant int& mode [[buffer(13)]],
    constant int& per_pair [[buffer(14)]],
    constant int& has_bias [[buffer(15)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup float totals[SIMDS * SUMS];
  const uint block = threadgroup_position_in_grid.x % blocks_of(uint(N));
  const uint pair = threadgroup_position_in_grid.x / blocks_of(uint(N));
  const uint expert = ids[pair];
  const bool chosen = expert < uint(E);
  const Place place =
      place_of(block, 0, simdgroup_index_in_threadgroup, thread_index_in_simdgroup);
  const device T* row = x + ulong(per_pair != 0 ? pair : pair / uint(A)) * uint(K);
  if (chosen) {
    const Matrix matrix = matrix_of_expert(w, scales, biases, expert, uint(N), uint(K), format_of(bits, group, mode));
    put_sums(products_of(matrix, uint(N), row, 1, uint(K), format_of(bits, group, mode), place), place, 1,
             simdgroup_index_in_threadgroup, totals);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint i = thread_index_in_threadgroup; i < RESULTS; i += THREADS) {
    const Result one = result_of(i, block, 0, chosen ? 1 : 0, uint(N), totals);
    if (one.row < uint(N)) {
      float value = chosen ? one.product : NAN;
      if (chosen && has_bias != 0) value += float(bias[ulong(expert) * uint(N) + one.row]);
      y[ulong(pair) * uint(N) + one.row] = T(value);
    }
  }
}
