// What the processor has for products, and how far loops are unrolled. Macros: those of
// steps.cpu.h, and
//
//   DOT     1: dot products of bfloat16 where the compiler has them (AVX512_BF16; on Arm, of dense
//           weights of bfloat16, bfdot); 2: products of matrices of bfloat16 (AMX) of many rows of
//           x in bfloat16; 0: float32
//   UNROLL  steps a turn of the innermost loop
#ifndef DOT
#define DOT 1
#endif
#ifndef UNROLL
#define UNROLL 1
#endif
#pragma once
#include "../../common/steps.cpu.h"

#if DOT && defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && \
    defined(__AVX512VL__) && VEC == 64
#define KD_DOT 1
#else
#define KD_DOT 0
#endif

#if DOT && defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC) && VEC == 16 && KD_DTYPE == 2
#define KD_BFDOT 1
#else
#define KD_BFDOT 0
#endif

#if KD_DOT && defined(__AVX512VBMI__)
#define KD_PACKED 1  // codes of 3, 5 and 6 bits as well
#else
#define KD_PACKED 0
#endif

// GCC's and clang's names of AMX_BF16, which has AMX_TILE.
#if DOT == 2 && KD_PACKED && (defined(__AMX_BF16__) || defined(__AMXBF16__)) && KD_DTYPE == 2
#define KD_MATRICES 1
#elif DOT == 2
#error "DOT=2 takes AMX_BF16 and AVX512_VBMI, vectors of 64 bytes and bfloat16"
#else
#define KD_MATRICES 0
#endif

#define KD_TEXT(text) #text
#define KD_PRAGMA(text) _Pragma(KD_TEXT(text))
#ifdef __clang__
#define KD_TURNS KD_PRAGMA(clang loop unroll_count(UNROLL))
#else
#define KD_TURNS KD_PRAGMA(GCC unroll UNROLL)
#endif
