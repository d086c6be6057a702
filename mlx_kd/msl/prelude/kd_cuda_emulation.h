// CUDA's words on the executor: runs a CUDA translation without a GPU, on one system thread.
// (KD_EMULATE_CUDA is defined in front of the text.)
#pragma once

#include "abi.h"

extern "C" const kd_runtime* kd_bound;
const kd_runtime* kd_bound;

#define __device__
#define __host__
#define __global__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(n)
#define __grid_constant__

static unsigned char kd_dynamic_bytes[32768];

struct kd_emulated_place {
  unsigned x, y, z;
};
inline kd_emulated_place kd_emulated(const unsigned (&a)[3]) { return {a[0], a[1], a[2]}; }
#define threadIdx (kd_emulated(kd_bound->self()->local))
#define blockIdx (kd_emulated(kd_bound->self()->group))
#define blockDim (kd_emulated(kd_bound->self()->dispatch))
#define gridDim (kd_emulated(kd_bound->self()->groups))

inline void __syncthreads() { kd_bound->barrier(0, 0, 3); }
inline void __syncwarp(unsigned) { kd_bound->barrier(0, 1, 3); }

struct kd_emulated_word {
  unsigned word;
  int from;
};
inline void kd_emulated_shuffle(unsigned active, const void* const* in, void* const* out) {
  for (int l = 0; l < 32; ++l) {
    if (!(active >> l & 1)) continue;
    const int from = static_cast<const kd_emulated_word*>(in[l])->from & 31;
    // A lane that has left gives no number that anyone may rely on.
    *static_cast<unsigned*>(out[l]) =
        active >> from & 1 ? static_cast<const kd_emulated_word*>(in[from])->word : 0x7fc0deadu;
  }
}
inline unsigned __shfl_sync(unsigned, unsigned word, int from) {
  const kd_emulated_word sent = {word, from};
  unsigned got;
  kd_bound->meet(1, 32, &sent, &got, kd_emulated_shuffle);
  return got;
}
inline void kd_emulated_ballot(unsigned active, const void* const* in, void* const* out) {
  unsigned votes = 0;
  for (int l = 0; l < 32; ++l)
    if (active >> l & 1) votes |= unsigned(*static_cast<const bool*>(in[l])) << l;
  for (int l = 0; l < 32; ++l)
    if (active >> l & 1) *static_cast<unsigned*>(out[l]) = votes;
}
inline unsigned __ballot_sync(unsigned, bool vote) {
  unsigned got;
  kd_bound->meet(2, 32, &vote, &got, kd_emulated_ballot);
  return got;
}
