// clang-format off
// Where chunks, their gates and the states before them are, and the stages that make them, for mlstm_chunkwise in CUDA
// C++. Scratch: 0 the gates of all tokens, then their weights in the state after their chunk; 1 the memory before each chunk, (heads, chunks, DHQK, DHHV); 2 n before each
// chunk, (heads, chunks, DHQK), then what rounding m loses, (heads); 3 the steps of chunks, (heads, chunks).
#pragma once
#ifndef KD_DTYPE
#define KD_DTYPE 2  // of q, k, v and h: 0 float32, 1 float16, 2 bfloat16
#endif

#include "../../common/kd_arguments.h"
#include "../../common/numbers.cu.h"
#include "../gates.cu.h"

#ifndef KD_DIM_heads
#define KD_DIM_heads 0
#define KD_DIM_S 1
#define KD_DIM_DHQK 2
#define KD_DIM_DHHV 3
#define KD_DIM_siging 4
#define KD_DIM_normalize 5
#define KD_DIM_normalizer_grad 6
#define KD_DIM_has_state 8
#define KD_SCALAR_eps 0
#endif

struct Sizes {
  int heads, S, DHQK, DHHV, chunk, chunks;
  bool siging, has_state;
};
static __device__ Sizes sizes_of(const kd_arguments& a) {
  const int S = (int)a.dims[KD_DIM_S], chunk = (int)a.stage;
  return {(int)a.dims[KD_DIM_heads], S, (int)a.dims[KD_DIM_DHQK], (int)a.dims[KD_DIM_DHHV], chunk, (S + chunk - 1) / chunk,
          a.dims[KD_DIM_siging] != 0, a.dims[KD_DIM_has_state] != 0};
}

static __device__ Gate* gates_of(const kd_arguments& a, long token) {
  return (Gate*)a.scratch[0] + token;
}
static __device__ float* weights_of(const kd_arguments& a, const Sizes& z, long token) {
  return (float*)gates_of(a, (long)z.heads * z.S) + token;
}
static __device__ float* memory_of(const kd_arguments& a, const Sizes& z, long head, int chunk) {
  return (float*)a.scratch[1] + (head * z.chunks + chunk) * z.DHQK * z.DHHV;
}
static __device__ float* n_of(const kd_arguments& a, const Sizes& z, long head, int chunk) {
  return (float*)a.scratch[2] + (head * z.chunks + chunk) * z.DHQK;
}
static __device__ float* rests_of(const kd_arguments& a, const Sizes& z) {
  return (float*)a.scratch[2] + (long)z.heads * z.chunks * z.DHQK;
}
static __device__ Step* steps_of(const kd_arguments& a, const Sizes& z, long head) {
  return (Step*)a.scratch[3] + head * z.chunks;
}

// A thread takes a chunk.
static __device__ bool chunk_of_thread(const Sizes& z, long& head, int& chunk) {
  const long at = (long)blockIdx.x * blockDim.x + threadIdx.x;
  head = at / z.chunks, chunk = (int)(at % z.chunks);
  return head < z.heads;
}

static __device__ void find_step(const kd_arguments& a) {
  const Sizes z = sizes_of(a);
  long head;
  int chunk;
  if (!chunk_of_thread(z, head, chunk)) return;
  const long from = head * z.S + (long)chunk * z.chunk;
  steps_of(a, z, head)[chunk] =
      step_of((const float*)a.inputs[3] + from, (const float*)a.inputs[4] + from, min(z.chunk, z.S - chunk * z.chunk));
}

// A thread takes a head: m before each chunk.
static __device__ void find_course(const kd_arguments& a) {
  const Sizes z = sizes_of(a);
  const long head = (long)blockIdx.x * blockDim.x + threadIdx.x;
  if (head >= z.heads) return;
  const float *const i = (const float*)a.inputs[3] + head * z.S, *const f = (const float*)a.inputs[4] + head * z.S;
  Step* const steps = steps_of(a, z, head);
  Pair m = {z.has_state && !z.siging ? ((const float*)a.inputs[7])[head] : 0.0f, 0.0f};
  constexpr int kAhead = 8;  // are loaded before the first of them is written
  for (int from = 0; from < z.chunks; from += kAhead) {
    Step ahead[kAhead];
#pragma unroll
    for (int e = 0; e < kAhead; ++e) ahead[e] = steps[min(from + e, z.chunks - 1)];
#pragma unroll
    for (int e = 0; e < kAhead; ++e) {
      const int chunk = from + e, token = chunk * z.chunk;
      if (chunk >= z.chunks) continue;
      steps[chunk].m = m;
      if (z.siging) continue;
      if (ahead[e].is_plain && m.high < infinity()) {
        m = sum_of(ahead[e].b, is_above(ahead[e].u, m) ? ahead[e].u : m);
      } else {
        Course c = course_of(m);
        walk(c, i + token, f + token, min(z.chunk, z.S - token), false, nullptr);
        m = c.m;
      }
    }
  }
}

// `m`: where the last one goes, or null.
static __device__ void find_gates(const kd_arguments& a, float* m) {
  const Sizes z = sizes_of(a);
  long head;
  int chunk;
  if (!chunk_of_thread(z, head, chunk)) return;
  const long from = head * z.S + (long)chunk * z.chunk;
  Course c = course_of(steps_of(a, z, head)[chunk].m);
  walk(c, (const float*)a.inputs[3] + from, (const float*)a.inputs[4] + from, min(z.chunk, z.S - chunk * z.chunk), z.siging,
       gates_of(a, from));
  const int count = min(z.chunk, z.S - chunk * z.chunk);
  const Gate* const gates = gates_of(a, from);
  const Gate last = gates[count - 1];
  for (int t = 0; t < count; ++t) weights_of(a, z, from)[t] = weight_of(last, t, gates[t].u, gates[t].u_rest);
  if (chunk + 1 < z.chunks) return;
  rests_of(a, z)[head] = z.siging ? 0.0f : c.m.rest;
  if (m) m[head] = z.siging ? 0.0f : c.m.high;
}
