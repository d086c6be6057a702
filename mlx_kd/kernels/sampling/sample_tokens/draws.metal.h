// clang-format off
// Random numbers as mx.random makes them, and sums and maxima over a threadgroup, for Metal kernels of
// samplers. Macros: SIMDS, the SIMD groups of a threadgroup.
#ifndef SIMDS
#define SIMDS 8
#endif
#pragma once
struct Lane {
  uint id;  // of the thread in its group
  uint lane;
  uint simd;
};

static float sum_over_group(float x, threadgroup float* partial, Lane at) {
  x = simd_sum(x);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (at.lane == 0) partial[at.simd] = x;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float sum = 0.0f;
  for (uint s = 0; s < SIMDS; ++s) sum += partial[s];
  return sum;
}

static float most_over_group(float x, threadgroup float* partial, Lane at) {
  x = simd_max(x);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (at.lane == 0) partial[at.simd] = x;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float most = partial[0];
  for (uint s = 1; s < SIMDS; ++s) most = max(most, partial[s]);
  return most;
}

// A key of mx.random.
struct Key {
  uint first;
  uint second;
};

// Threefry-2x32, 20 rounds (Salmon et al. 2011).
static Key hash_of(Key key, uint a, uint b) {
  const uint third = key.first ^ key.second ^ 0x1bd11bdau;
  uint keys[3];
  keys[0] = key.first;
  keys[1] = key.second;
  keys[2] = third;
  uint turns[8];
  turns[0] = 13;
  turns[1] = 15;
  turns[2] = 26;
  turns[3] = 6;
  turns[4] = 17;
  turns[5] = 29;
  turns[6] = 16;
  turns[7] = 24;
  a += keys[0];
  b += keys[1];
  for (uint turn = 0; turn < 5; ++turn) {
    for (uint i = 0; i < 4; ++i) {
      const uint by = turns[turn % 2 * 4 + i];
      a += b;
      b = (b << by | b >> (32 - by)) ^ a;
    }
    a += keys[(turn + 1) % 3];
    b += keys[(turn + 2) % 3] + turn + 1;
  }
  Key hash;
  hash.first = a;
  hash.second = b;
  return hash;
}

static float uniform_of(Key key, uint i, uint count) {
  const uint half_of = count / 2;
  const uint odd = count % 2;
  const bool is_middle = odd != 0 && i == half_of;
  const bool is_first = i < half_of || is_middle;
  const uint a = is_first ? i : i - half_of - odd;
  const Key hash = hash_of(key, a, is_middle ? 0 : a + half_of + odd);
  return min(float(is_first ? hash.first : hash.second) * 0x1p-32f, 0x1.fffffep-1f);
}

// The next key: of a state, which is split, or of the list.
static Key next_key(thread Key& state, thread uint& taken, const device uint* key, uint keys) {
  Key next;
  if (keys == 0) {
    const Key a = hash_of(state, 0, 2);
    const Key b = hash_of(state, 1, 3);
    state.first = a.first;
    state.second = b.first;
    next.first = a.second;
    next.second = b.second;
  } else {
    const uint i = min(taken, keys - 1);
    taken += 1;
    next.first = key[2 * i];
    next.second = key[2 * i + 1];
  }
  return next;
}
