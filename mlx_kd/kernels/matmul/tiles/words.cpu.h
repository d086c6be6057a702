// Operands of a product as words of K: floats, or where the processor has dot products of bfloat16,
// pairs of elements of two neighbouring k. What is behind the last element is zero. Macros: those
// of steps.cpu.h and instructions.cpu.h.
#pragma once
#include "tile_parts.cpu.h"

#define KD_PAIRS (KD_DOT && KD_DTYPE == 2)
constexpr long kPerStep = KD_PAIRS ? 2 : 1;  // elements of K

// Of tile registers a multiple of 16.
KD_INLINE long steps_of(long k) {
  return KD_MATRICES ? (k + 31) / 32 * 16 : (k + kPerStep - 1) / kPerStep;
}
KD_INLINE constexpr long panels_of(long count, long width) {
  return (count + width - 1) / width;
}
KD_INLINE long least(long a, long b) {
  return a < b ? a : b;
}

// An operand of one product: element i of the axis that stays, k of the one that is summed, is
// base[i * across + k * along], and one of the two steps is 1.
struct Operand {
  const T* base;
  long across, along;
  long count;  // of i
};

// Words of kLanes steps from a row whose elements of K are neighbours; `left` elements of it are
// there.
KD_INLINE Floats words_of(const T* row, long left) {
#if KD_PAIRS
  return left >= 2 * kLanes ? take<Floats>(row)
                            : (Floats)take_some<Uints>((const unsigned char*)row, 2 * left);
#else
  return float_lanes(left >= kLanes ? take<Elements>(row) : take_some<Elements>(row, left));
#endif
}

// kLanes words of one step from rows whose elements across are neighbours.
KD_INLINE Floats words_across(const T* row, [[maybe_unused]] const T* next, long count) {
  const Elements low = count >= kLanes ? take<Elements>(row) : take_some<Elements>(row, count);
#if KD_PAIRS
  Elements high = {};
  if (next) high = count >= kLanes ? take<Elements>(next) : take_some<Elements>(next, count);
  return (Floats)(__builtin_convertvector(low, Uints) | __builtin_convertvector(high, Uints) << 16);
#else
  return float_lanes(low);
#endif
}
