// Types that Metal knows without "using namespace metal".
#pragma once

#if !KD_CUDA
#define KD_NAMES(T) \
  using metal::T##2; \
  using metal::T##3; \
  using metal::T##4; \
  using metal::packed_##T##2; \
  using metal::packed_##T##3; \
  using metal::packed_##T##4;
KD_NAMES(bool) KD_NAMES(char) KD_NAMES(uchar) KD_NAMES(short) KD_NAMES(ushort) KD_NAMES(int)
KD_NAMES(uint) KD_NAMES(long) KD_NAMES(ulong) KD_NAMES(half) KD_NAMES(bfloat) KD_NAMES(float)
#undef KD_NAMES
using metal::bfloat;
using metal::half;
using metal::uchar;
using metal::uint;
using metal::ulong;
using metal::ushort;
using metal::int8_t;
using metal::uint8_t;
using metal::int16_t;
using metal::uint16_t;
using metal::int32_t;
using metal::uint32_t;
using metal::int64_t;
using metal::uint64_t;
using metal::size_t;
using metal::ptrdiff_t;
using metal::uintptr_t;
using metal::as_type;
using metal::kd_pick;
using metal::kd_order;
using metal::kd_braces;
using metal::kd_field;
using metal::kd_elements;
using metal::kd_site;
using metal::kd_shared;
using metal::kd_as;
using metal::kd_Place;
using metal::kd_Pointer;
using metal::kd_Reference;
using metal::float2x2;
using metal::float2x3;
using metal::float2x4;
using metal::float3x2;
using metal::float3x3;
using metal::float3x4;
using metal::float4x2;
using metal::float4x3;
using metal::float4x4;
using metal::half2x2;
using metal::half3x3;
using metal::half4x4;
#endif
