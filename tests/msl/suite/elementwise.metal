#include <metal_stdlib>
using namespace metal;

kernel void axpy(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],
                 constant float& a [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  y[i] = a * x[i] + y[i];
}

kernel void silu_f16(device const half* x, device half* y, uint i [[thread_position_in_grid]]) {
  float v = x[i];
  y[i] = half(v / (1.0 + exp(-v)));
}

kernel void swiglu(device const float* gate, device const float* up, device float* y,
                   uint i [[thread_position_in_grid]]) {
  float g = gate[i];
  y[i] = g / (1 + precise::exp(-g)) * up[i];
}

kernel void leaky(device const half* x, device half* y, uint i [[thread_position_in_grid]]) {
  y[i] = x[i] > 0 ? x[i] : x[i] * 0.125h;
}

kernel void bf16_scale(device const bfloat* x, device bfloat* y, uint i [[thread_position_in_grid]]) {
  y[i] = bfloat(float(x[i]) * 3.0);
}

kernel void transpose2(device const float* x, device float* y, constant uint2& shape,
                       uint2 at [[thread_position_in_grid]]) {
  if (at.x >= shape.x || at.y >= shape.y) return;
  y[at.x * shape.y + at.y] = x[at.y * shape.x + at.x];
}

kernel void vector4(device const float4* x, device float4* y, uint i [[thread_position_in_grid]]) {
  float4 v = x[i];
  v.xy = v.yx;
  v.zw += float2(1, 2);
  y[i] = v.wzyx * 2 + dot(v, float4(1));
}

kernel void packed3(device const packed_float3* x, device packed_float3* y,
                    uint i [[thread_position_in_grid]]) {
  float3 v = x[i];
  y[i] = cross(v, float3(0, 0, 1));
}

kernel void matvec3(device const packed_float3* x, device packed_float3* y,
                    uint i [[thread_position_in_grid]]) {
  float3x3 m = float3x3(float3(1, 2, 3), float3(4, 5, 6), float3(7, 8, 10));
  y[i] = transpose(m) * (m * float3(x[i]));
}

constant int kTaps = 3;
constant float taps[kTaps] = {0.25, 0.5, 0.25};

kernel void stencil(device const float* x, device float* y, constant uint& n,
                    uint i [[thread_position_in_grid]]) {
  float sum = 0;
  for (int k = 0; k < kTaps; ++k) {
    uint at = clamp(int(i) + k - 1, 0, int(n) - 1);
    sum += taps[k] * x[at];
  }
  y[i] = sum;
}

constant int kPower [[function_constant(0)]];
constant bool kHasPower = is_function_constant_defined(kPower);

kernel void power(device const float* x, device float* y, uint i [[thread_position_in_grid]]) {
  float r = 1;
  for (int k = 0; k < (kHasPower ? kPower : 1); ++k) r *= x[i];
  y[i] = r;
}

// Taken apart and put together again: 2 x.
kernel void apart(device const float4* x, device float4* y, uint i [[thread_position_in_grid]]) {
  const float4 v = x[i];
  int4 exponent;
  float4 whole, cosine;
  const float4 fraction = frexp(v, exponent);
  const float4 rest = modf(v, whole);
  const float4 sine = precise::sincos(v, cosine);
  const float4 one = sine * sine + cosine * cosine;
  y[i] = ldexp(fraction, exponent) + (whole + rest) + one + float4(ilogb(v) - exponent);
}

// A step up and one down again; from 0 a step leads to the least number.
kernel void half_steps(device const half* x, device half* y, uint i [[thread_position_in_grid]]) {
  const bool least = nextafter(half(0), half(-1)) == as_type<half>(ushort(0x8001)) &&
                     as_type<ushort>(nextafter(half(0), half(1))) == 1;
  y[i] = least ? nextafter(nextafter(x[i], half(100)), half(-100)) : half(0);
}

kernel void geometry(device const packed_float3* x, device packed_float3* y,
                     uint i [[thread_position_in_grid]]) {
  const float3 v = x[i], n = float3(2, -1, 2) / 3;
  const float3 sorted = float3(fmin3(v.x, v.y, v.z), fmedian3(v.x, v.y, v.z), fmax3(v.x, v.y, v.z));
  y[i] = faceforward(n, v, n) + refract(v, n, 1.0f) + sorted + (isordered(v.x, v.y) ? 0.0f : 99.0f);
}

kernel void saturated(device const int* x, device const int* w, device int* y,
                      uint i [[thread_position_in_grid]]) {
  y[i] = madsat(x[i] >> 15, w[i] >> 16, w[i]);
}

kernel void saturated_long(device const int* x, device const int* w, device long* y,
                           uint i [[thread_position_in_grid]]) {
  y[i] = madsat(long(x[i]) << 10, long(w[i]) >> (i % 32), long(x[i]));
}
