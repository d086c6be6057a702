// clang-format off
// Part of the body of a norm: adds `sum` over the THREADS threads of a row and declares the row's
// `scale`. It reads sum, lane, slot (the row in its threadgroup), D, eps and the thread positions under
// metal_kernel's names. Macros: THREADS, ROWS, FAST, and REDUCE (0: simd_sum, then every thread adds;
// 1: simd_sum twice; 2: a tree).
#pragma once
#if REDUCE == 2
  threadgroup float partial[ROWS * THREADS];
  partial[thread_index_in_threadgroup] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint other = THREADS / 2; other > 0; other /= 2) {
    if (lane < other)
      partial[thread_index_in_threadgroup] += partial[thread_index_in_threadgroup + other];
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  sum = partial[slot * THREADS];
#else
  sum = simd_sum(sum);
#if THREADS > 32
  threadgroup float partial[ROWS * (THREADS / 32)];
  if (thread_index_in_simdgroup == 0) partial[simdgroup_index_in_threadgroup] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
#if REDUCE == 0
  sum = 0.0f;
#pragma unroll
  for (uint g = 0; g < THREADS / 32; ++g) sum += partial[slot * (THREADS / 32) + g];
#else
  sum = 0.0f;
  if (thread_index_in_simdgroup < THREADS / 32)
    sum = partial[slot * (THREADS / 32) + thread_index_in_simdgroup];
  sum = simd_sum(sum);
#endif
#endif
#endif

#if FAST
  const float scale = fast::rsqrt(sum / float(D) + eps);
#else
  const float scale = precise::rsqrt(sum / float(D) + eps);
#endif
