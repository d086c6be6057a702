// mlstm_chunkwise_vjp: the gradient of mlstm_chunkwise, by the formulas at the head of mlstm_chunkwise_vjp.cpu.cpp, in
// chunks of 64 tokens.
//
//   _steps, _course, _gates, _states   as forward
//   _rows          a group takes a chunk: 1 / (N + eps), dr and dm of its tokens, and dq
//   _cotangents    a group takes 64 x 64 of the memory's cotangent, in registers, from the last chunk to the first
//   _columns       a group takes a chunk: dk, dv, and what its pairs of tokens add to the gates
//   _turns, _carry a thread takes a chunk, a head: what m hands back from token to token
//   the last       a thread takes a chunk: di, df and dm0
//
// bfloat16 with DHQK of at most 128 has kernels of its own in place of the four with products (256 threads, chunks of 128
// tokens):
//
//   _scan          as forward
//   _queries       a group takes a chunk: what _rows finds (pairs16.cu.h)
//   _scan_back     a group takes 32 columns of the memory's cotangent, which takes the memory's place (scan_back.cu.h)
//   _keys          a group takes a chunk: what _columns finds (keys16.cu.h)
//
// Other products are those of products.cu.h. Grids: as forward; 128 threads: chunks of all heads in x; heads in x, rows of 64 by
// columns of 64 in y; 64 threads: chunks, heads. stage: tokens of a chunk. Dynamic shared memory: ScanShelf, PairShelf16.
#include "backward.cu.h"

constexpr int kThreads = 128, kSlice = 32, kSide = 64;

#include "slices.cu.h"
#include "tensor.cu.h"
#include "products.cu.h"
#include "states.cu.h"
#include "backward_pairs.cu.h"
#include "backward_gates.cu.h"

#define KD_KERNEL(name, threads) \
  extern "C" __global__ void __launch_bounds__(threads) mlx_kd_mlstm_chunkwise_vjp##name(const __grid_constant__ kd_arguments a)

KD_KERNEL(_steps, 64) {
  find_step(a);
}
KD_KERNEL(_course, 64) {
  find_course(a);
}
KD_KERNEL(_gates, 64) {
  find_gates(a, nullptr);
}
KD_KERNEL(_states, kThreads) {
  find_states<false>(a);
}
KD_KERNEL(_rows, kThreads) {
  find_rows(a);
}
KD_KERNEL(_cotangents, kThreads) {
  find_cotangents(a);
}
KD_KERNEL(_columns, kThreads) {
  find_columns(a);
}
KD_KERNEL(_turns, 64) {
  find_turn(a);
}
KD_KERNEL(_carry, 64) {
  find_carry(a);
}
KD_KERNEL(, 64) {
  find_gradients(a);
}

#if KD_DTYPE == 2
#include "fragments.cu.h"
#include "scan.cu.h"
#include "scan_back.cu.h"
#include "pairs16.cu.h"
#include "keys16.cu.h"
#define KD_KERNEL16(name, groups) \
  extern "C" __global__ void __launch_bounds__(kGroup, groups) mlx_kd_mlstm_chunkwise_vjp##name(const __grid_constant__ kd_arguments a)

KD_KERNEL16(_scan, 2) {
  scan_states(a, nullptr, nullptr);
}
KD_KERNEL16(_queries, 1) {
  find_queries(a);
}
KD_KERNEL16(_scan_back, 2) {
  scan_cotangents(a);
}
KD_KERNEL16(_keys, 1) {
  find_keys(a);
}
#endif
