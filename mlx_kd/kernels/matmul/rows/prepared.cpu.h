// x as the products of a call read it, made once a call: normalised where the call has a norm, its
// columns in the order of the codes, and the sum of each group, by which biases are multiplied.
#pragma once
#include "../weights/weights.cpu.h"

// Which order: that of dot products of bfloat16 for these formats, else floats.
KD_INLINE bool takes_dots([[maybe_unused]] const Shape& shape) {
#if KD_DOT
  if (shape.format == kDense) return KD_DTYPE == 2;
  if (shape.format == kMxfp8) return KD_PACKED;
  return KD_PACKED || (shape.bits & (shape.bits - 1)) == 0;
#else
  return false;
#endif
}

// Whether the codes of a half word are columns that follow one another: one code a half word.
[[maybe_unused]] KD_INLINE bool is_in_order(const Shape& shape) {
  return shape.format == kDense || shape.format == kMxfp8 || (shape.bits & (shape.bits - 1)) != 0;
}

// A chunk is the columns of 64 bytes of codes, or 32 that are in order. x is exact as the sum of
// kPlanes bfloat16 values.
constexpr long kPlanes = KD_DTYPE == 2 ? 1 : KD_DTYPE == 1 ? 2 : 3;

struct Prepared {
  // Of dot products: (chunks, m, kPlanes, chunk) bfloat16, zeros behind the last column.
  unsigned short* planes;
  float* floats;  // else: (m, k)
  float* sums;    // (groups / kLanes rounded up, m, kLanes)
  T* x;           // (m, k), of a call with a norm
};

KD_INLINE Floats sum_lanes_of(const T* x, long count) {
  Floats sum = {};
  long i = 0;
  for (; i + kLanes <= count; i += kLanes) sum += float_lanes(take<Elements>(x + i));
  if (i < count) sum += float_lanes(take_some<Elements>(x + i, count - i));
  return sum;
}

// y = rounded(w rounded(x scale)), as MLX rounds a norm.
static void normalise(const T* x, const T* w, long k, float eps, T* y) {
  Floats squares[4] = {};
  long i = 0;
  for (; i + 4 * kLanes <= k; i += 4 * kLanes) {
    KD_UNROLL
    for (int j = 0; j < 4; ++j) {
      const Floats part = float_lanes(take<Elements>(x + i + j * kLanes));
      squares[j] += part * part;
    }
  }
  for (; i < k; i += kLanes) {
    const Floats part = float_lanes(take_some<Elements>(x + i, k - i < kLanes ? k - i : kLanes));
    squares[0] += part * part;
  }
  const float sum = lanes_total(squares[0] + squares[1] + (squares[2] + squares[3]));
  const float scale = 1.0f / __builtin_sqrtf(sum / float(k) + eps);
  for (i = 0; i + kLanes <= k; i += kLanes) {
    const Floats part = rounded_lanes(float_lanes(take<Elements>(x + i)) * scale);
    const Elements result = element_lanes(part * float_lanes(take<Elements>(w + i)));
    __builtin_memcpy(y + i, &result, sizeof result);
  }
  if (i < k) {
    const Floats part = rounded_lanes(float_lanes(take_some<Elements>(x + i, k - i)) * scale);
    const Elements result = element_lanes(part * float_lanes(take_some<Elements>(w + i, k - i)));
    __builtin_memcpy(y + i, &result, (k - i) * sizeof(T));
  }
}

#if KD_DOT
typedef unsigned short Halves __attribute__((vector_size(64)));
typedef unsigned short Quarter __attribute__((vector_size(16)));
typedef unsigned long Longs __attribute__((vector_size(64)));

// The planes of 32 columns of x.
KD_INLINE void planes_of(const T* x, Halves (&planes)[kPlanes]) {
#if KD_DTYPE == 2
  planes[0] = take<Halves>(x);
#else
  KD_UNROLL
  for (int half = 0; half < 2; ++half) {
    Floats rest = float_lanes(take<Elements>(x + half * kLanes));
    KD_UNROLL
    for (int p = 0; p < kPlanes; ++p) {
      const Uints bits = (Uints)rest;
      const Uints upper = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
      for (int i = 0; i < kLanes; ++i)
        planes[p][half * kLanes + i] = (unsigned short)(upper[i] >> 16);
      rest -= (Floats)upper;
    }
  }
#endif
}

// One chunk of one row, its codes 16 / bits a half word (`each`): halves[t] of the chunk are the
// columns each j + t.
template <int kEach>
KD_INLINE void order_chunk(const T* x, unsigned short* to) {
  constexpr long chunk = 32 * kEach;
  KD_UNROLL
  for (int part = 0; part < kEach; ++part) {
    Halves planes[kPlanes];
    planes_of(x + 32 * part, planes);
    KD_UNROLL
    for (int p = 0; p < kPlanes; ++p) {
      unsigned short* const plane = to + p * chunk;
      if constexpr (kEach == 1) {
        __builtin_memcpy(plane, &planes[p], 64);
      } else if constexpr (kEach == 4) {
        KD_UNROLL
        for (int t = 0; t < 4; ++t) {
          const Quarter some = __builtin_convertvector((Longs)planes[p] >> 16 * t, Quarter);
          __builtin_memcpy(plane + 32 * t + 8 * part, &some, sizeof some);
        }
      } else {
        unsigned short all[32];
        __builtin_memcpy(all, &planes[p], sizeof all);
        for (int i = 0; i < 32; ++i) {
          const int column = 32 * part + i;
          plane[column % kEach * 32 + column / kEach] = all[i];
        }
      }
    }
  }
}

template <int kEach>
static void order_row(const Shape& shape, const T* x, long row, unsigned short* planes) {
  constexpr long chunk = 32 * kEach;
  for (long c = 0; c * chunk < shape.k; ++c) {
    unsigned short* const to = planes + (c * shape.m + row) * kPlanes * chunk;
    const long left = shape.k - c * chunk;
    if (left >= chunk) {
      order_chunk<kEach>(x + c * chunk, to);
    } else {
      T whole[chunk] = {};
      __builtin_memcpy(whole, x + c * chunk, left * sizeof(T));
      order_chunk<kEach>(whole, to);
    }
  }
}

static void order_for_dots(const Shape& shape, const T* x, long row, unsigned short* planes) {
  if (is_in_order(shape)) return order_row<1>(shape, x, row, planes);
  if (shape.bits == 8) return order_row<2>(shape, x, row, planes);
  if (shape.bits == 4) return order_row<4>(shape, x, row, planes);
  order_row<8>(shape, x, row, planes);
}
#endif

// Sums of the groups of one row of x, by which biases are multiplied.
static void sum_groups(const Shape& shape, const T* x, long row, const Prepared& to) {
  if (shape.format != kAffine) return;
  const long blocks = (shape.groups + kLanes - 1) / kLanes;
  for (long b = 0; b < blocks; ++b) {
    Floats sums = {};
    for (long i = 0; i < kLanes && b * kLanes + i < shape.groups; ++i)
      sums[i] = lanes_total(sum_lanes_of(x + (b * kLanes + i) * shape.group, shape.group));
    __builtin_memcpy(to.sums + (b * shape.m + row) * kLanes, &sums, sizeof sums);
  }
}

// Row `row`, which is at `x`, normalised where there is a `norm`, with the sums of its groups.
static const T* finished_row(const Shape& shape, const T* x, const T* norm, float eps, long row,
                             const Prepared& to) {
  if (norm) {
    normalise(x, norm, shape.k, eps, to.x + row * shape.k);
    x = to.x + row * shape.k;
  }
  sum_groups(shape, x, row, to);
  return x;
}

// The same in the order in which rows of W are read.
[[maybe_unused]] static void prepare_row(const Shape& shape, const T* x, const T* norm, float eps,
                                         long row, const Prepared& to) {
  x = finished_row(shape, x, norm, eps, row, to);
  if (takes_dots(shape)) {
#if KD_DOT
    order_for_dots(shape, x, row, to.planes);
#endif
    return;
  }
  float* const floats = to.floats + row * shape.k;
#if KD_BFDOT
  if (shape.format == kDense) {  // as it is, in the same place
    __builtin_memcpy((T*)to.floats + row * shape.k, x, shape.k * sizeof(T));
    return;
  }
#endif
  for (long i = 0; i < shape.k; i += kLanes) {
    const long left = shape.k - i < kLanes ? shape.k - i : kLanes;
    const Floats part = float_lanes(take_some<Elements>(x + i, left));
    __builtin_memcpy(floats + i, &part, left * sizeof(float));
  }
}
