// Numbers of 16 and 32 bits and packs of 16 bytes, for the kernels of this folder. No header of the
// toolkit is needed.
// KD_DTYPE: 0 float, 1 half, 2 bfloat. VEC: elements of a pack.
#if KD_DTYPE == 0
typedef float T;
__device__ __forceinline__ float load(T v) { return v; }
__device__ __forceinline__ T store(float v) { return v; }
#else
typedef unsigned short T;
__device__ __forceinline__ float load(T v) {
#if KD_DTYPE == 1
  float r;
  asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(v));
  return r;
#else
  return __uint_as_float(unsigned(v) << 16);
#endif
}
__device__ __forceinline__ T store(float v) {
  T r;
#if KD_DTYPE == 1
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r) : "f"(v));
#else
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r) : "f"(v));
#endif
  return r;
}
#endif

struct __align__(VEC * sizeof(T)) Pack {
  T at[VEC];
};

__device__ __forceinline__ float squares(const Pack& pack) {
  float sum = 0;
#pragma unroll
  for (int v = 0; v < VEC; ++v) sum += load(pack.at[v]) * load(pack.at[v]);
  return sum;
}
__device__ __forceinline__ Pack added(const Pack& a, const Pack& b) {
  Pack made;
#pragma unroll
  for (int v = 0; v < VEC; ++v) made.at[v] = store(load(a.at[v]) + load(b.at[v]));
  return made;
}
__device__ __forceinline__ Pack scaled(const Pack& pack, const Pack& weight, float scale) {
  Pack made;
#pragma unroll
  for (int v = 0; v < VEC; ++v)
    made.at[v] = store(load(weight.at[v]) * load(store(load(pack.at[v]) * scale)));
  return made;
}

// The sum over the threads of a block, in all of them.
template <int Threads>
__device__ __forceinline__ float block_sum(float v) {
  for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
  if (Threads == 32) return v;
  __shared__ float partial[Threads / 32];
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = v;
  __syncthreads();
  v = 0;
#pragma unroll
  for (int i = 0; i < Threads / 32; ++i) v += partial[i];
  return v;
}
