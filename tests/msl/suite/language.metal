// The language itself: attributes, constants, templates, types.
#include <metal_stdlib>
#include "parts/activations.metal.h"
#include "parts/activations.metal.h"
using namespace metal;

// All places of a thread, three components each, folded into one number.
kernel void places(device uint* y, uint3 at [[thread_position_in_grid]], uint3 grid [[threads_per_grid]],
                   uint3 local [[thread_position_in_threadgroup]], uint3 size [[threads_per_threadgroup]],
                   uint3 group [[threadgroup_position_in_grid]], uint3 groups [[threadgroups_per_grid]],
                   uint3 whole [[dispatch_threads_per_threadgroup]], uint index [[thread_index_in_threadgroup]],
                   uint lane [[thread_index_in_simdgroup]], uint sg [[simdgroup_index_in_threadgroup]],
                   uint sgs [[simdgroups_per_threadgroup]], uint quad [[quadgroup_index_in_threadgroup]],
                   uint quads [[quadgroups_per_threadgroup]], uint part [[thread_index_in_quadgroup]],
                   uint width [[threads_per_simdgroup]], uint also [[thread_execution_width]],
                   uint most [[dispatch_simdgroups_per_threadgroup]],
                   uint quads_most [[dispatch_quadgroups_per_threadgroup]]) {
  uint3 folded = at + 3 * local + 5 * size + 7 * group + 11 * groups + 13 * whole;
  uint r = folded.x + 17 * folded.y + 19 * folded.z + 1000 * index + lane + 23 * sg + 29 * sgs;
  r += 31 * quad + 37 * quads + 41 * part + (width == 32 && also == 32 ? 1000000 : 0) + 43 * most + 47 * quads_most;
  y[at.x + grid.x * (at.y + grid.y * at.z)] = r;
}

kernel void places16(device ushort2* y, ushort2 at [[thread_position_in_grid]], ushort2 grid [[threads_per_grid]],
                     ushort local [[thread_index_in_threadgroup]], ushort2 t [[thread_position_in_threadgroup]]) {
  y[at.x + grid.x * at.y] = ushort2(local + t.x, at.y);
}

struct Stage {
  float scale;
  packed_float3 offset;
  int taps[2];
  float apply(float v) const constant { return v * scale + offset[1]; }
};
struct Settings {
  uint n;
  Stage stages[2];
};
kernel void struct_arguments(device const float* x, device float* y, constant Settings& settings,
                             uint i [[thread_position_in_grid]]) {
  if (i >= settings.n) return;
  float v = x[i];
  for (int k = 0; k < 2; ++k) v = settings.stages[k].apply(v) * settings.stages[k].taps[k];
  y[i] = v;
}

constant bool kSquare [[function_constant(0)]];
constant float kFactor [[function_constant(1)]];
constant uint2 kShift [[function_constant(2)]];
constant int kMissing [[function_constant(7)]];
constant float kTwice = 2 * kFactor;
kernel void modes(device const float* x, device float* y, uint i [[thread_position_in_grid]]) {
  float v = kSquare ? x[i] * x[i] : x[i];
  if (is_function_constant_defined(kMissing)) v += 1000;
  y[i] = v * kTwice + float(kShift.x) + 0.5f * kShift.y;
}

kernel void included(device const float* x, device float* y, uint i [[thread_position_in_grid]]) {
  y[i] = parts::relu(x[i]) - parts::kSlope * parts::relu(-x[i]);
}

template <typename T>
struct Accumulator {
  typedef float type;
  static constexpr constant int lanes = 2;
};
template <>
struct Accumulator<int> {
  using type = long;
  static constexpr constant int lanes = 3;
};
template <int N, bool Reverse = false>
struct Power {
  static inline float of(float v) {
    if constexpr (N == 0)
      return 1;
    else if (Reverse)
      return Power<N - 1, Reverse>::of(v) / v;
    else
      return v * Power<N - 1, Reverse>::of(v);
  }
};
template <typename T, int N>
[[kernel]] void templated(device const T* x, device float* y, uint i [[thread_position_in_grid]]) {
  typename Accumulator<T>::type sum = 0;
  for (int k = 0; k < N; ++k) sum += x[i];
  y[i] = float(sum) * Accumulator<T>::lanes + Power<N>::of(2.0f) + Power<2, true>::of(4.0f);
}
template [[host_name("templated_half_3")]] [[kernel]] decltype(templated<half, 3>) templated<half, 3>;
template [[host_name("templated_int_2")]] [[kernel]] decltype(templated<int, 2>) templated<int, 2>;

kernel void bit_casts(device const float* x, device uint* y, uint i [[thread_position_in_grid]]) {
  float v = x[i];
  ushort2 halves = as_type<ushort2>(v);
  half2 pair = half2(v, -v);
  uint packed = as_type<uint>(pair);
  float back = float(as_type<half2>(packed).x);
  y[i] = as_type<uint>(back) ^ (uint(halves.x) | uint(halves.y) << 16) ^ as_type<uint>(uchar4(1, 2, 3, 4));
}

kernel void packed_types(device const packed_half4* h, device const packed_uchar4* u, device packed_short2* s,
                         uint i [[thread_position_in_grid]]) {
  half4 v = half4(h[i]);
  uchar4 bytes = u[i];
  packed_short2 r = packed_short2(short(bytes.x) - short(bytes.w), short(float(v.y) * 100.0f));
  r[0] += short(bytes[1]);
  s[i] = r;
}

kernel void swizzles(device const float4* x, device float4* y, uint i [[thread_position_in_grid]]) {
  float4 v = x[i];
  v.xz = v.zx + v.yy;
  v.w *= 2;
  v.rgb -= v.bgr * 0.5f;
  float3 part = float3(v.wy, v.x);
  v.yw += part.zx;
  y[i] = float4(v.xxx, part.y).wxyz + v.bgra;
}

enum Kind { first, second = 4, third };
enum class Tone : uchar { low = 1, high };
kernel void control(device const int* x, device int* y, uint i [[thread_position_in_grid]]) {
  int v = x[i], r = 0;
  switch (v % 6) {
    case first: r = 1; break;
    case second: r = 2;
    case third: r += 10; break;
    default: r = -1;
  }
  do {
    if (v & 1) {
      v -= 1;
      continue;
    }
    v /= 2;
    ++r;
  } while (v > 2);
  for (int a = 0, b = 10; a < b; a += 3, --b) r += a * b;
  Tone tone = r > 20 ? Tone::high : Tone::low;
  y[i] = r * 100 + int(tone);
}

kernel void relational(device const float* x, device float* y, uint i [[thread_position_in_grid]]) {
  float v = x[i];
  float3 w = float3(v, 1 - v, 0.5f);
  bool3 low = w < float3(0.25f);
  float r = (any(low) ? 1 : 0) + (all(low) ? 2 : 0) + (isnan(v / 0.0f * 0.0f) ? 4 : 0) + (isfinite(v) ? 8 : 0);
  r += select(10.0f, 20.0f, v > 0.5f) + mix(1.0f, 3.0f, v) + step(0.5f, v) + smoothstep(0.0f, 1.0f, v);
  float3 c = clamp(w, 0.3f, 0.6f);
  r += c.x + c.y + c.z + sign(v - 0.5f) + fract(v * 3) + saturate(v * 2) + fma(v, 2.0f, 1.0f);
  r += length(w) + distance(w, float3(0)) + dot(normalize(w), w) + copysign(v, -1.0f) + fmod(5.5f, 2.0f);
  y[i] = r + max3(v, 0.2f, 0.4f) + median3(v, 0.2f, 0.4f) + trunc(v * 10) + rint(v * 4);
}

kernel void integers(device const int* x, device int* y, uint i [[thread_position_in_grid]]) {
  int v = x[i];
  short s = short(v);
  uchar u = uchar(v);
  int r = addsat(v, 2147483647) ^ subsat(v, 5) ^ hadd(v, 3) ^ rhadd(v, 4) ^ mad24(v, 3, 7) ^ mul24(v, -2);
  r += addsat(s, short(32760)) + subsat(u, uchar(200)) + abs(v) + min(v, 17) + max(v, -3) + clamp(v, -5, 5);
  r += clz(uint(v)) + popcount(u) + ctz(uint(v) | 256u) + mulhi(v, 1 << 20) + madhi(v, 1 << 21, 5);
  y[i] = r + int(rotate(uint(v), 7u) & 1023u) + extract_bits(v, 2u, 5u) + min3(v, 3, 9) + int(absdiff(v, 4));
}

kernel void longs(device const long* x, device ulong* y, uint i [[thread_position_in_grid]]) {
  long v = x[i] * 1000003L - 12345678901L;
  ulong u = ulong(v) >> 3;
  y[i] = u ^ (ulong(v) << 40) ^ mulhi(u, 0x123456789abcdeful) ^ popcount(u) ^ ulong(v % 97 + 97);
}

kernel void conversions(device const float* x, device float* y, uint i [[thread_position_in_grid]]) {
  float v = x[i] * 100;
  half h = half(v);
  bfloat b = bfloat(v);
  uchar4 bytes = uchar4(uint4(v + 300) & 255u);
  y[i] = float(h) + float(b) + float(short(v)) + float(char(int(v) % 100)) + float(bytes.x) + float(bool(int(v)));
}

// y = A x for 4 x 4, with determinant and transpose.
kernel void matrices4(device const float4* x, device float4* y, uint i [[thread_position_in_grid]]) {
  float4x4 a = float4x4(x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]);
  float2x2 corner = float2x2(a[0].xy, a[1].xy);
  float4 v = a * float4(1, 2, 3, 4) + float4(1, 0, 0, 1) * transpose(a);
  y[i] = v + float4(determinant(corner), determinant(a), a[1][2], 0.5f * a[2].w);
}

// What a source adds to namespace metal: a class of its own, and Metal's for an own type.
template <typename T>
struct Tagged {
  T at;
};
namespace metal {
template <typename T>
struct tag_of {
  static constexpr constant float value = 1;
};
template <>
struct tag_of<Tagged<float>> {
  static constexpr constant float value = 2;
};
}  // namespace metal
template <typename T>
struct _numeric_limits_impl<Tagged<T>> {
  static constexpr METAL_FUNC Tagged<T> lowest() { return Tagged<T>{-4}; }
};

template <typename T, int N>
[[kernel, max_total_threads_per_threadgroup(N * 16)]] void tagged(device const float* x, device float* y,
                                                                  uint i [[thread_position_in_grid]]) {
  const int bits = __builtin_ctz(8u | i << 4) + __builtin_popcount(7u) + __builtin_clz(1u | (i & 1u));
  y[i] = x[i] + bits + metal::tag_of<T>::value + 16 * tag_of<float>::value + numeric_limits<T>::lowest().at;
}
template [[host_name("tagged_2")]] [[kernel]] void tagged<Tagged<float>, 2>(device const float*, device float*, uint);
