// The knobs of kernels of products, with their defaults.
#pragma once
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef VEC
#define VEC 16  // bytes of a vector of floats
#endif
#ifndef DOT
#define DOT 1  // 1: the processor's dot product of bfloat16, where it has one
#endif
#ifndef UNROLL
#define UNROLL 1  // steps a turn of the innermost loop
#endif
#ifndef PREFETCH
#define PREFETCH 0  // bytes ahead, where x does not stay in the first cache
#endif
