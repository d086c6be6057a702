// gather_matvec_gate_up: y = act(x Wg^T (+ bias)) * (x Wu^T (+ bias)) of few tokens, W that of each
// chosen expert.
//
// A threadgroup takes BLOCK rows of both matrices of one pair of token and expert, which its simdgroups share as
// products.metal.h says. Results of an id that is not below E are NaN, and nothing is read for them.
//
// Grid: M * A * ceil(N / BLOCK) * THREADS threads in x. Threadgroups: THREADS.
#include <metal_stdlib>
using namespace metal;

#define XROWS 1
#include "../weights/elements.metal.h"
#include "../experts/expert_gate.metal.h"

[[max_total_threads_per_threadgroup(THREADS)]] [[kernel]] void mlx_kd_gather_matvec_gate_up(
    const device T* x [[buffer(0)]],
    const device uint* ids [[buffer(1)]],
    const device T* w_gate [[buffer(2)]],
    const device T* w_up [[buffer(3)]],
    const device T* bias_gate [[buffer(4)]],
    const device T* bias_up [[buffer(5)]],
    device T* y [[buffer(6)]],
    constant int& A [[buffer(7)]],
    constant int& E [[buffer(8)]],
    constant int& N [[buffer(9)]],
    constant int& K [[buffer(10)]],
    constant int& activation [[buffer(11)]],
    constant int& per_pair [[buffer(12)]],
    constant int& has_bias [[buffer(13)]],
    uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]],
    uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
    uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
    uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup float totals[2 * SIMDS * SUMS];
  const uint block = threadgroup_position_in_grid.x % blocks_of(uint(N));
  const uint pair = threadgroup_position_in_grid.x / blocks_of(uint(N));
  const uint expert = ids[pair];
  const bool chosen = expert < uint(E);
  const Place place =
      place_of(block, 0, simdgroup_index_in_threadgroup, thread_index_in_simdgroup);
  const device T* row = x + ulong(per_pair != 0 ? pair : pair / uint(A)) * uint(K);
  for (uint i = 0; chosen && i < 2; ++i) {  // the gate, then up
    const device T* matrix =
        i == 0 ? w_gate + ulong(expert) * uint(N) * uint(K)
               : w_up + ulong(expert) * uint(N) * uint(K);
    put_sums(products_of(matrix, uint(N), row, 1, uint(K), place), place, 1,
             simdgroup_index_in_threadgroup, totals + i * SIMDS * SUMS);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint i = thread_index_in_threadgroup; i < RESULTS; i += THREADS) {
    const Result first = result_of(i, block, 0, chosen ? 1 : 0, uint(N), totals);
    const Result second = result_of(i, block, 0, chosen ? 1 : 0, uint(N), totals + SIMDS * SUMS);
    if (first.row < uint(N)) {
      float gate = first.product;
      float up = second.product;
      if (chosen && has_bias != 0) {
        const ulong at = ulong(expert) * uint(N) + first.row;
        gate = float(T(gate + float(bias_gate[at])));
        up = float(T(up + float(bias_up[at])));
      }
      y[ulong(pair) * uint(N) + first.row] = T(chosen ? gated(gate, up, activation) : NAN);
    }
  }
}
