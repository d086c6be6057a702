// clang-format off
// Products of 16 x 8 by 8 x 8 on tensor cores, in TF32 with float sums. A float is split in two numbers of TF32, so
// that 22 bits of it count; numbers of 16 bits are exact in one. Row g = lane / 4 and column t = lane % 4 of a lane.
#pragma once
#if KD_DTYPE == 0
constexpr bool kIsExact = false;  // whether q, k and v are numbers of TF32
#else
constexpr bool kIsExact = true;
#endif

struct Left {
  unsigned at[4];  // (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4)
};
struct Right {
  unsigned at[2];  // (t, g), (t + 4, g)
};
struct Sums {
  float at[4];  // (g, 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1)
};

static __device__ unsigned head_of(float x) {
  return __float_as_uint(x) & 0xffffe000u;
}
static __device__ unsigned rest_of(float x) {
  return __float_as_uint(x - __uint_as_float(head_of(x)));
}

static __device__ void multiply(Sums& c, const Left& a, const Right& b) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c.at[0]), "+f"(c.at[1]), "+f"(c.at[2]), "+f"(c.at[3])
      : "r"(a.at[0]), "r"(a.at[1]), "r"(a.at[2]), "r"(a.at[3]), "r"(b.at[0]), "r"(b.at[1]));
}

// A factor with its rest; a rest that is known to be 0 costs nothing.
struct Lefts {
  Left head, rest;
};
struct Rights {
  Right head, rest;
};
static __device__ Lefts lefts_of(float a, float b, float c, float d) {
  return {{head_of(a), head_of(b), head_of(c), head_of(d)}, {rest_of(a), rest_of(b), rest_of(c), rest_of(d)}};
}
static __device__ Rights rights_of(float a, float b) {
  return {{head_of(a), head_of(b)}, {rest_of(a), rest_of(b)}};
}
template <bool a_is_exact, bool b_is_exact>
static __device__ void multiply(Sums& c, const Lefts& a, const Rights& b) {
  if (!a_is_exact) multiply(c, a.rest, b.head);
  if (!b_is_exact) multiply(c, a.head, b.rest);
  multiply(c, a.head, b.head);
}

// Four neighbours, as floats.
struct Four {
  float at[4];
};
static __device__ Four four_of(const float* x) {
  const float4 y = *(const float4*)x;
  return {y.x, y.y, y.z, y.w};
}
static __device__ Four four_of(const unsigned short* x) {
  const uint2 y = *(const uint2*)x;
  return {widen((T)(y.x & 0xffffu)), widen((T)(y.x >> 16)), widen((T)(y.y & 0xffffu)), widen((T)(y.y >> 16))};
}
