// clang-format off
// Where the numbers of mlstm_chunkwise_vjp in CUDA C++ are. Scratch, besides what chunks.cu.h has: 0 then has numbers of the
// tokens and rows of DHQK floats, 1 the cotangents of the memory behind each chunk, 2 those of n behind each chunk, then
// what passes through each chunk, in parts, and what m hands back.
#pragma once
#include "chunks.cu.h"

// Of a token.
struct Number {
  float inverse, dr, dm, from_past, to_state, column, over, spare;
};
// Of a chunk: what m hands to the token before it, and whether that is all.
struct Turn {
  float sum, carry;
  int is_all, spare;
};

static __device__ Number* numbers_of(const kd_arguments& a, const Sizes& z, long token) {
  const long all = (long)z.heads * z.S;
  return (Number*)((float*)gates_of(a, all) + all) + token;
}
static __device__ float* row_of(const kd_arguments& a, const Sizes& z, long token) {
  return (float*)numbers_of(a, z, (long)z.heads * z.S) + token * z.DHQK;
}
static __device__ float* cotangent_of(const kd_arguments& a, const Sizes& z, long head, int chunk) {
  return memory_of(a, z, z.heads + head, chunk);
}
static __device__ float* dn_of(const kd_arguments& a, const Sizes& z, long head, int chunk) {
  return rests_of(a, z) + z.heads + (head * z.chunks + chunk) * z.DHQK;
}
// Chunks of 128 tokens are those of scan.cu.h, which has 32 columns in a group.
static __device__ int parts_of(const Sizes& z) {
  if (z.chunk > 64) return (z.DHHV + 31) / 32;
  return (z.DHQK + 63) / 64 * ((z.DHHV + 63) / 64);
}
static __device__ float* through_of(const kd_arguments& a, const Sizes& z, long head, int chunk) {
  return dn_of(a, z, z.heads, 0) + (head * z.chunks + chunk) * parts_of(z);
}
static __device__ Turn* turns_of(const kd_arguments& a, const Sizes& z, long head) {
  return (Turn*)through_of(a, z, z.heads, 0) + head * z.chunks;
}

// A chunk of a head.
struct Chunk {
  long head, token;  // its first token
  int at, count;
};
static __device__ Chunk chunk_of(const Sizes& z, long head, int chunk) {
  return {head, head * z.S + (long)chunk * z.chunk, chunk, min(z.chunk, z.S - chunk * z.chunk)};
}
