// mlstm_chunkwise: h of every token and the state after the last.
//
//   _steps, _course, _gates   a thread takes a chunk, a head, a chunk: what a chunk does to m; m before each; all gates
//   _states                   a group takes 64 x 64 of the memory of a head from chunk to chunk, in registers
//   mlx_kd_mlstm_chunkwise    a group takes 64 tokens and 128 columns of h; a warp takes 16 of the tokens: first what q
//                             reads of the memory before the chunk, then the tokens of the chunk, 32 at a time
//
// Products run on tensor cores (tensor.cu.h). Arrays pass shared memory in slices that are requested one ahead
// (slices.cu.h); the lengths of its rows are such that what a warp reads together lies in different banks.
//
// bfloat16 with DHQK of at most 128 has kernels of its own in place of the last two (256 threads, chunks of 128 tokens):
//
//   _scan                     a group takes 32 columns of the memory of a head from chunk to chunk (scan.cu.h)
//   _rows16                   a group takes a chunk and 128 columns of h (rows16.cu.h)
//
// Grids: 64 threads: chunks of all heads in x, or heads; 128 threads: heads in x, rows of 64 by columns of 64 in y;
// blocks of 64 tokens of all chunks and heads in x, blocks of 128 columns in y. stage: tokens of a chunk. Dynamic shared
// memory of the last: Shelf; of those of bfloat16: ScanShelf, Shelf16.
#include "chunks.cu.h"
#include "slices.cu.h"
#include "tensor.cu.h"

constexpr int kThreads = 128, kSlice = 32, kRows = 64, kColumns = 128, kSide = 64, kDeep = 128;

extern "C" __global__ void __launch_bounds__(64) mlx_kd_mlstm_chunkwise_steps(const __grid_constant__ kd_arguments a) {
  find_step(a);
}
extern "C" __global__ void __launch_bounds__(64) mlx_kd_mlstm_chunkwise_course(const __grid_constant__ kd_arguments a) {
  find_course(a);
}
extern "C" __global__ void __launch_bounds__(64) mlx_kd_mlstm_chunkwise_gates(const __grid_constant__ kd_arguments a) {
  find_gates(a, (float*)a.outputs[3]);
}

#include "states.cu.h"
extern "C" __global__ void __launch_bounds__(kThreads) mlx_kd_mlstm_chunkwise_states(const __grid_constant__ kd_arguments a) {
  find_states<true>(a);
}

#include "rows.cu.h"

#if KD_DTYPE == 2
#include "fragments.cu.h"
#include "scan.cu.h"
#include "rows16.cu.h"
extern "C" __global__ void __launch_bounds__(kGroup, 2) mlx_kd_mlstm_chunkwise_scan(const __grid_constant__ kd_arguments a) {
  scan_states(a, (float*)a.outputs[1], (float*)a.outputs[2]);
}
extern "C" __global__ void __launch_bounds__(kGroup, 2) mlx_kd_mlstm_chunkwise_rows16(const __grid_constant__ kd_arguments a) {
  find_h(a);
}
#endif
