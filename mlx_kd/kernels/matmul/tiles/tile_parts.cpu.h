// What tiles of products are made of: a transpose in registers, and the dot product of pairs.
#pragma once
#include "../../common/transpose.cpu.h"
#include "../weights/instructions.cpu.h"
#include "../weights/lanes.cpu.h"

#if KD_DOT
KD_INLINE Floats dot_of(Floats sum, const float* x, Floats w) {
  asm("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(w), "m"(*x));
  return sum;
}
#endif
