// Rows as codes, scales and biases, by MLX's affine rule, for CPU kernels: included below the knobs
// of steps.cpu.h and the indices of the sizes. UNROLL: steps of a group that are read in one turn.
//
// Of each group: scale = max((most - least) / n, 1e-7) with n = 2^bits - 1, negative where the end
// of larger magnitude is the most; q0 = that end / scale, rounded; where q0 is not 0 scale becomes
// end / q0 and the bias the end, else the bias is 0. Codes are (x - bias) / scale, rounded to
// nearest even, from 0 to n, with scale and bias as they are before they are rounded.
//
// Scales of four groups are made at a time, one a lane and without a branch, since which end is the
// larger one cannot be predicted. A quotient is q = x / scale by the inverse of the scale, then
// twice q + (x - q scale) / scale with fused products, which makes it the rounded one.
#ifndef UNROLL
#define UNROLL 1
#endif
#ifndef KD_DIM_group_size
#define KD_DIM_group_size 7
#endif
#pragma once
#include "kd_arguments.h"
#include "steps.cpu.h"

#define KD_TEXT(text) #text
#define KD_PRAGMA(text) _Pragma(KD_TEXT(text))
#ifdef __clang__
#define KD_TURNS KD_PRAGMA(clang loop unroll_count(UNROLL))
#else
#define KD_TURNS KD_PRAGMA(GCC unroll UNROLL)
#endif

constexpr int kFloats = VEC / 4;

// --- scales and biases of four groups ---

typedef float Four __attribute__((vector_size(16)));

KD_INLINE Four four(float value) {
  return Four{} + value;
}
KD_INLINE Four magnitude(Four value) {
  return value < four(0) ? -value : value;
}
KD_INLINE Four nearest(Four value) {  // to integers, ties to even
  const Four size = magnitude(value), whole = (size + 0x1p23f) - 0x1p23f;
  const Four near = size < four(0x1p23f) ? whole : size;
  return value < four(0) ? -near : near;
}

constexpr auto least_of = [](auto a, auto b) { return a < b ? a : b; };
constexpr auto most_of = [](auto a, auto b) { return a > b ? a : b; };

// The four lanes that are left when the halves of a vector are joined again and again.
template <class Vector, class Join>
KD_INLINE Four four_lanes(Vector value, Join join) {
  if constexpr (sizeof value == sizeof(Four)) {
    return value;
  } else {
    typedef float Half __attribute__((vector_size(sizeof(Vector) / 2)));
    Half low, high;
    __builtin_memcpy(&low, &value, sizeof low);
    __builtin_memcpy(&high, (const char*)&value + sizeof low, sizeof high);
    return four_lanes(join(low, high), join);
  }
}

// What the lanes of each of four come to.
template <class Join>
KD_INLINE Four joined(const Four (&x)[4], Join join) {
  const Four ab = join(__builtin_shufflevector(x[0], x[1], 0, 4, 1, 5),
                       __builtin_shufflevector(x[0], x[1], 2, 6, 3, 7));
  const Four cd = join(__builtin_shufflevector(x[2], x[3], 0, 4, 1, 5),
                       __builtin_shufflevector(x[2], x[3], 2, 6, 3, 7));
  return join(__builtin_shufflevector(ab, cd, 0, 1, 4, 5),
              __builtin_shufflevector(ab, cd, 2, 3, 6, 7));
}

KD_INLINE void read_ends(const T* from, long group, Four& least, Four& most) {
  Step low = load(from), high = low;
  KD_TURNS
  for (long i = kStep; i < group; i += kStep) {
    const Step step = load(from + i);
    KD_UNROLL
    for (int p = 0; p < kParts; ++p) {
      low.part[p] = least_of(step.part[p], low.part[p]);
      high.part[p] = most_of(step.part[p], high.part[p]);
    }
  }
#if KD_DTYPE == 2
  low.part[0] = least_of(low.part[0], low.part[1]);
  high.part[0] = most_of(high.part[0], high.part[1]);
#endif
  least = four_lanes(low.part[0], least_of), most = four_lanes(high.part[0], most_of);
}

struct Codes {
  Four scale, bias, inverse;
};

// `least` and `most`: of each group, four lanes.
KD_INLINE Codes codes_of(const Four (&least)[4], const Four (&most)[4], float most_code) {
  const Four low = joined(least, least_of), high = joined(most, most_of);
  const auto by_low = magnitude(low) > magnitude(high);
  Four scale = (high - low) / most_code;
  scale = scale > four(1e-7f) ? scale : four(1e-7f);
  scale = by_low ? scale : -scale;
  const Four end = by_low ? low : high, q0 = nearest(end / scale);
  const auto none = q0 == four(0);
  scale = none ? scale : end / q0;
  return {scale, none ? four(0) : end, 1.0f / scale};
}

KD_INLINE T narrowed(float value) {
#if KD_DTYPE == 0
  return value;
#elif KD_DTYPE == 2
  const unsigned bits = __builtin_bit_cast(unsigned, value);
  return T((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
#else
  Step step = {};
  step.part[0][0] = value;
  T row[kStep];
  store(row, step);
  return row[0];
#endif
}

// --- codes ---

// sum + a b and sum - a b with one rounding.
#if defined(__x86_64__) && defined(__FMA__) && VEC <= KD_REGISTER
#define KD_FUSED 1
#ifdef __AVX512F__
#define KD_VECTOR "v"
#else
#define KD_VECTOR "x"
#endif
KD_INLINE Floats plus_product(Floats sum, Floats a, Floats b) {
  asm("vfmadd231ps %2, %1, %0" : "+" KD_VECTOR(sum) : KD_VECTOR(a), KD_VECTOR(b));
  return sum;
}
KD_INLINE Floats minus_product(Floats sum, Floats a, Floats b) {
  asm("vfnmadd231ps %2, %1, %0" : "+" KD_VECTOR(sum) : KD_VECTOR(a), KD_VECTOR(b));
  return sum;
}
#elif defined(__aarch64__) && VEC == 16
#define KD_FUSED 1
KD_INLINE Floats plus_product(Floats sum, Floats a, Floats b) {
  asm("fmla %0.4s, %1.4s, %2.4s" : "+w"(sum) : "w"(a), "w"(b));
  return sum;
}
KD_INLINE Floats minus_product(Floats sum, Floats a, Floats b) {
  asm("fmls %0.4s, %1.4s, %2.4s" : "+w"(sum) : "w"(a), "w"(b));
  return sum;
}
#else
#define KD_FUSED 0
#endif

struct Code {
  float scale, bias, inverse;
};

template <bool kByInverse>
KD_INLINE Floats quotient(Floats x, const Code& code) {
#if KD_FUSED
  if constexpr (kByInverse) {
    const Floats inverse = Floats{} + code.inverse, scale = Floats{} + code.scale;
    Floats q = x * inverse;
    q = plus_product(q, minus_product(x, q, scale), inverse);
    return plus_product(q, minus_product(x, q, scale), inverse);
  }
#endif
  return x / code.scale;
}

// In the low byte of each lane; what is above it is not 0.
template <bool kByInverse>
KD_INLINE Uints rounded_codes(Floats part, const Code& code, float most_code) {
  Floats q = quotient<kByInverse>(part - code.bias, code);
  const Floats none = {}, all = none + most_code;
  q = q > none ? q : none;
  q = q < all ? q : all;
  return (Uints)(q + 0x1p23f);
}

template <class Codes>
KD_INLINE void put(unsigned char* to, Codes codes) {
  __builtin_memcpy(to, &codes, sizeof codes);
}

template <int kBits>
KD_INLINE void put_codes(const Uints (&part)[kParts], unsigned char* to) {
  typedef unsigned char Bytes __attribute__((vector_size(kFloats)));
#if KD_DTYPE == 2
  typedef unsigned short Pairs __attribute__((vector_size(kFloats * 2)));
  if constexpr (kBits == 8)
    put(to, __builtin_convertvector((part[1] & 255) << 8 | (part[0] & 255), Pairs));
  else
    put(to, __builtin_convertvector((part[1] & 15) << 4 | (part[0] & 15), Bytes));
#else
  typedef unsigned long Twos __attribute__((vector_size(VEC)));
  typedef unsigned char Half __attribute__((vector_size(kFloats / 2)));
  const Twos both = (Twos)(part[0] & 15);
  if constexpr (kBits == 8)
    put(to, __builtin_convertvector(part[0] & 255, Bytes));
  else
    put(to, __builtin_convertvector(both | both >> 28, Half));
#endif
}

template <int kBits, bool kByInverse>
KD_INLINE void write_codes(const T* from, long group, const Code& code, unsigned char* to) {
  KD_TURNS
  for (long i = 0; i < group; i += kStep) {
    const Step step = load(from + i);
    Uints codes[kParts];
    KD_UNROLL
    for (int p = 0; p < kParts; ++p)
      codes[p] = rounded_codes<kByInverse>(step.part[p], code, float((1 << kBits) - 1));
    put_codes<kBits>(codes, to + i * kBits / 8);
  }
}

// Groups of rows that are quantised when there are four of them; flush() writes the last ones. Rows
// must stay until then.
template <int kBits>
struct Groups {
  explicit Groups(const kd_arguments* arguments) : a(arguments) {}

  const kd_arguments* a;
  int count = 0;
  const T* from[4];
  struct {
    unsigned char* codes;
    T *scale, *bias;
  } to[4];

  // To row `row`, counted by head, of the cache whose codes, scales and biases are outputs `port`
  // and those after it.
  void add(const T* x, long width, int port, long row) {
    const long group = a->dims[KD_DIM_group_size], first = row * (width / group);
    for (long g = 0; g < width / group; ++g) {
      from[count] = x + g * group;
      to[count] = {(unsigned char*)a->outputs[port] + (first + g) * (group * kBits / 8),
                   (T*)a->outputs[port + 1] + first + g, (T*)a->outputs[port + 2] + first + g};
      if (++count == 4) flush();
    }
  }

  void flush() {
    if (count == 0) return;
    const long group = a->dims[KD_DIM_group_size];
    Four least[4], most[4];
    KD_UNROLL
    for (int i = 0; i < 4; ++i) read_ends(from[i < count ? i : 0], group, least[i], most[i]);
    const Codes made = codes_of(least, most, float((1 << kBits) - 1));
    KD_UNROLL
    for (int i = 0; i < 4; ++i)
      if (i < count) write(i, group, {made.scale[i], made.bias[i], made.inverse[i]});
    count = 0;
  }

  void write(int i, long group, const Code& code) {
    *to[i].scale = narrowed(code.scale);
    *to[i].bias = narrowed(code.bias);
    // The inverse and all products are in the range of float.
    if (code.scale < 0x1p100f && code.scale > -0x1p100f)
      write_codes<kBits, true>(from[i], group, code, to[i].codes);
    else
      write_codes<kBits, false>(from[i], group, code, to[i].codes);
  }
};
