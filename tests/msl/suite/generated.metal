// What generators and large libraries write, in small.
#include <metal_stdlib>
#include <metal_logging>
using namespace metal;

// Function templates specialised by name, deleted, overloaded with one another.
template <typename T> T written(float v) = delete;
template <> half written<half>(float v) { return half(v); }
template <> uchar written<uchar>(float v) { return uchar(v + 0.5f); }
int doubled(int v) { return 2 * v; }
float doubled(float v) { return float(doubled(int(v))) + doubled(int(1)); }
template <typename T>
[[kernel]] void specialised(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                            uint i [[thread_position_in_grid]]) {
  y[i] = float(written<T>(x[i])) + doubled(3.0f);
}
template [[host_name("specialised_half")]] [[kernel]] void specialised<half>(device const float*,
                                                                            device float*, uint);
template [[host_name("specialised_byte")]] [[kernel]] decltype(specialised<uchar>) specialised<uchar>;

// Variable templates, a static member defined outside, members specialised in their class.
template <typename T> struct pair_of { T a, b; };
template <typename T> constant constexpr bool is_pair = false;
template <typename T> constant constexpr bool is_pair<pair_of<T>> = true;
template <typename T, typename U = pair_of<pair_of<T>>> static constexpr constant int width_of = is_pair<T> ? 2 : 1;
template <> constant constexpr int width_of<half, half> = 4;
struct Widths {
  static constexpr constant int most = 8;
  template <typename T> T halved(T v) { return v / T(2); }
  template <> int halved(int v) { return v >> 1; }
  template <typename T> T least() { return T(1); }
};
constexpr constant int Widths::most;
kernel void widths(device int* y, uint i [[thread_position_in_grid]]) {
  Widths w;
  y[i] = i == 0 ? width_of<float> : i == 1 ? width_of<pair_of<float>> : i == 2 ? width_of<half, half>
                                                                    : Widths::most + w.halved(7);
}

// References to arrays, beyond their one element; a class that converts to anything.
typedef float many[1];
typedef uint Count;
using Index = uint;
struct Nothing {
  template <typename T> operator T() && { return T{}; }
};
kernel void checked(device many const& x [[buffer(0)]], device many& y [[buffer(1)]],
                    constant Count& n [[buffer(2)]], Index i [[thread_position_in_grid]]) {
  float v = i < n ? x[i] : Nothing();
  metal::float4 w = i < n ? metal::float4(1.0) : Nothing();
  y[i] = v + w.y;
}

// Threadgroup memory by reference: an array, a struct, an atomic, a number.
typedef float tile[32];
struct Kept { float values[32]; uint count; };
kernel void by_reference(device float* y [[buffer(0)]], threadgroup tile& s [[threadgroup(0)]],
                         threadgroup Kept& k [[threadgroup(1)]], threadgroup atomic_uint& n,
                         uint t [[thread_position_in_threadgroup]]) {
  s[t] = t;
  k.values[t] = 2 * t;
  if (t == 0) atomic_store_explicit(&n, 0, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  atomic_fetch_add_explicit(&n, 1, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[t] = s[31 - t] + k.values[t] + atomic_load_explicit(&n, memory_order_relaxed);
}

// Overloads of Metal's own functions, and names of the C library.
struct best { float value; uint index; };
best simd_shuffle_down(best b, ushort d) {
  return best{simd_shuffle_down(b.value, d), metal::simd_shuffle_down(b.index, d)};
}
template <typename T> T erf(T x) { return T(3) * x; }
float lgamma(float x) { return x; }
kernel void most(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                 uint i [[thread_position_in_grid]]) {
  best b{x[i], i};
  for (ushort d = 16; d > 0; d /= 2) {
    best o = simd_shuffle_down(b, d);
    if (o.value > b.value) b = o;
  }
  if (i == 0) y[0] = float(b.index) + erf(x[0]) + lgamma(1.0f);
}

// Halves in anonymous structs; constructors by address space; byte buffers.
struct block {
  union {
    struct { half d; half m; };
    half2 dm;
  };
  char q[4];
};
struct counter {
  uint state;
  counter() thread = default;
  counter() threadgroup = default;
  counter(uint s) thread : state{s} {}
  uint next() thread { state = state * 3u + 1u; return state; }
  uint peek() const device { return state; }
};
kernel void blocks(device const uchar* bytes, device float* y, constant float& scale,
                   uint i [[thread_position_in_grid]]) {
  device const block* b = (device const block*)bytes;
  device const half* d = &b[i].d;
  counter mine(i);
  y[i] = scale * (b[i].d * 2 + float(b[i].dm.y) + *d) + mine.next();
}

// Names that are words of C++20 only, words of no effect, braces that fill.
kernel void words(volatile coherent(device) device const float4* requires, device float4* concept_,
                  uint i [[thread_position_in_grid]]) {
  int concept = 2, std = 1, order = 3, pick = 4;
  float4 v = {1, 2};
  float a[4] = { [0 ... 3] = 5.0f };
  int2 shifted = int2(-16, 8) >> uint2(2, 1);
  constexpr os_log log("here", "this");
  log.log_debug("%d", i);
  concept_[i] = requires[i] + v + float4(a[3], concept + std, order + pick, shifted.x + shifted.y);
}

// Packed numbers, bits of vectors, traits of vectors.
template <typename T, typename E = typename enable_if<is_integral<T>::value>::type>
T signs(T x) { return select(select(T(0), T(1), x > T(0)), T(-1), x < T(0)); }
[[clang::optnone]] int plain(int v) { return v; }
kernel void packs(device uint* y) {
  float4 v = float4(0.5f, -0.25f, 1.0f, 0.0f);
  y[0] = pack_float_to_unorm4x8(v);
  y[1] = pack_float_to_snorm4x8(v);
  y[2] = pack_float_to_snorm2x16(v.xy);
  y[3] = pack_half_to_unorm4x8(half4(v));
  y[4] = pack_float_to_unorm10a2(v);
  y[5] = pack_float_to_srgb_unorm4x8(v);
  y[6] = pack_float_to_unorm565(v.xzw);
  y[7] = uint(unpack_snorm4x8_to_float(y[1]).z * 100) + uint(unpack_unorm565_to_half(ushort(y[6])).y * 10);
  uint3 bits = extract_bits(uint3(0xabcd, 0xff00, 0x1234), 4u, 8u);
  y[8] = bits.x + bits.y + bits.z + popcount(uint2(3, 5)).y;
  int4 s = signs(int4(-5, 0, 7, -1));
  y[9] = uint(s.x + 2 * s.z + s.w + plain(4));
}

// The product is rounded before the sum.
kernel void rounded(device const float* a, device const float* b, device const float* c,
                    device float* y, uint i [[thread_position_in_grid]]) {
#pragma clang fp contract(off)
  float p = a[i] * b[i];
  y[i] = p + c[i];
}
