// clang-format off
// A matrix in registers. Thread (p, j) has rows p, p + parts, p + 2 parts, ... of column j. A vector of a
// reflection goes to shared memory, in the order of the threads that need it, and stays there until Q is made.
#pragma once

template <int kRows>
KD_INLINE float product(const float (&x)[kRows], const float* v, int first) {
  float sum = 0.0f, other = 0.0f;
#pragma unroll
  for (int k = 0; k < kRows; k += 8)
    if (k + 8 > first) {
      const float4 y = *(const float4*)(v + k), z = *(const float4*)(v + k + 4);
      sum += x[k] * y.x + x[k + 1] * y.y + x[k + 2] * y.z + x[k + 3] * y.w;
      other += x[k + 4] * z.x + x[k + 5] * z.y + x[k + 6] * z.z + x[k + 7] * z.w;
    }
  return sum + other;
}

template <int kRows>
KD_INLINE void subtract(float (&x)[kRows], float factor, const float* v, int first) {
#pragma unroll
  for (int k = 0; k < kRows; k += 8)
    if (k + 8 > first) {
      const float4 y = *(const float4*)(v + k), z = *(const float4*)(v + k + 4);
      x[k] -= factor * y.x, x[k + 1] -= factor * y.y, x[k + 2] -= factor * y.z, x[k + 3] -= factor * y.w;
      x[k + 4] -= factor * z.x, x[k + 5] -= factor * z.y, x[k + 6] -= factor * z.z, x[k + 7] -= factor * z.w;
    }
}

// Of the rows of a thread, so many are above row `row`: that is the next one, if it `has` it.
KD_INLINE int rows_above(int row) {
  return (row - (int)threadIdx.x + (int)blockDim.x - 1) >> (31 - __clz(blockDim.x));
}
KD_INLINE bool has(int row) {
  return ((row - (int)threadIdx.x) & ((int)blockDim.x - 1)) == 0;
}

// The threads of column c, which becomes that of R, write its vector and return tau.
template <int kRows>
KD_INLINE float reflect(float (&x)[kRows], int c, int part, int parts, float* v) {
  const unsigned lane = (threadIdx.y * parts + part) & 31;
  const unsigned column = parts == 32 ? kAll : ((1u << parts) - 1) << (lane & ~(unsigned)(parts - 1));
  const int below = rows_above(c + 1), at = has(c) ? below - 1 : -1;
  float tail = 0.0f, alpha = 0.0f;
#pragma unroll
  for (int k = 0; k < kRows; ++k) {
    tail += k >= below ? x[k] * x[k] : 0.0f;
    alpha += k == at ? x[k] : 0.0f;
  }
  for (int other = 1; other < parts; other *= 2) {
    tail += __shfl_xor_sync(column, tail, other);
    alpha += __shfl_xor_sync(column, alpha, other);
  }
  const Reflection made = reflection_of(alpha, tail);
#pragma unroll
  for (int k = 0; k < kRows; ++k) {
    v[k] = k >= below ? x[k] * made.inverse : k == at ? 1.0f : 0.0f;
    x[k] = k >= below ? 0.0f : k == at ? made.beta : x[k];
  }
  return made.tau;
}

template <int kRows>
KD_INLINE Found read(float (&x)[kRows], const float* from, const Sizes& size) {
  __shared__ unsigned largest;
  __shared__ int spoilt;
  const int part = threadIdx.x, parts = blockDim.x, j = threadIdx.y;
  if (part == 0 && j == 0) largest = 0, spoilt = size.n;
  __syncthreads();
  unsigned most = 0;
  const int count = j < size.n ? rows_above(size.m) : 0;
  from += (long)part * size.n + j;
#pragma unroll
  for (int k = 0; k < kRows; ++k) {
    x[k] = k < count ? *from : 0.0f;
    from += parts * size.n;
    most = max(most, __float_as_uint(x[k]) & 0x7fffffffu);
  }
  if (most >= 0x7f800000u)
    atomicMin(&spoilt, j);
  else
    atomicMax(&largest, most);
  __syncthreads();
  return {largest, spoilt};
}

// The first `count` rows of a thread, from `to` on, in lines of `wide`.
template <int kRows>
KD_INLINE void write(const float (&x)[kRows], int count, float scale, float* to, int wide) {
#pragma unroll
  for (int k = 0; k < kRows; ++k) {
    if (k < count) *to = x[k] * scale;
    to += blockDim.x * wide;
  }
}

// R in the registers; vectors and taus in shared memory.
template <int kRows>
KD_INLINE void factor(float (&x)[kRows], const Sizes& size, float* vectors, float* taus) {
  const int part = threadIdx.x, parts = blockDim.x, j = threadIdx.y, line = parts * (kRows + 4);
  const int last = j | (parts < 32 ? 32 / parts - 1 : 0);  // of the warp's columns
  for (int c = 0; c < size.steps; ++c) {
    float* const v = vectors + c * line + part * (kRows + 4);
    if (j == c) {
      const float tau = reflect(x, c, part, parts, v);
      if (part == 0) taus[c] = tau;
    }
    __syncthreads();
    if (last <= c) continue;
    const int first = c / parts;
    const float dot = sum_of_parts(product(x, v, first), parts);
    subtract(x, j > c ? taus[c] * dot : 0.0f, v, first);
  }
}

// Columns of Q: those of I, reflected from the last vector to the first.
template <int kRows>
KD_INLINE void make_q(float (&x)[kRows], const Sizes& size, const float* vectors, const float* taus, float* to) {
  const int part = threadIdx.x, parts = blockDim.x, line = parts * (kRows + 4);
  for (int j0 = 0; j0 < size.tall; j0 += blockDim.y) {
    const int j = j0 + threadIdx.y, last = j | (parts < 32 ? 32 / parts - 1 : 0);
    const int one = has(j) ? rows_above(j + 1) - 1 : -1;
#pragma unroll
    for (int k = 0; k < kRows; ++k) x[k] = k == one ? 1.0f : 0.0f;
    for (int c = min(last, size.steps - 1); c >= 0; --c) {
      const float* const v = vectors + c * line + part * (kRows + 4);
      const int first = c / parts;
      const float dot = sum_of_parts(product(x, v, first), parts);
      subtract(x, taus[c] * dot, v, first);
    }
    write(x, j < size.tall ? rows_above(size.m) : 0, 1.0f, to + (long)part * size.tall + j, size.tall);
  }
}

// Where a matrix is, and what is made of it; q is null for R alone.
struct Held {
  const float* from;
  float *q, *r;
};

// Returns the first column that is not finite, or n. `is_spoilt`: the results are NaN anyhow.
template <int kRows>
KD_INLINE int factor_matrix(const Held& at, const Sizes& size, float* vectors, bool is_spoilt) {
  const int part = threadIdx.x, parts = blockDim.x, j = threadIdx.y;
  float* const taus = vectors + size.steps * parts * (kRows + 4);
  float x[kRows];
  const Found found = read(x, at.from, size);
  const bool failed = is_spoilt || found.spoilt < size.n;
  const Scale scale = scale_of(found.largest);
#pragma unroll
  for (int k = 0; k < kRows; ++k) x[k] = failed ? not_a_number() : x[k] * scale.to;
  if (!failed) factor(x, size, vectors, taus);
  write(x, j < size.n ? rows_above(size.tall) : 0, scale.back, at.r + (long)part * size.n + j, size.n);
  if (!at.q) return found.spoilt;
  if (!failed) make_q(x, size, vectors, taus, at.q);
  for (long e = j * parts + part; e < (long)size.m * size.tall && failed; e += parts * blockDim.y)
    at.q[e] = not_a_number();
  return found.spoilt;
}

template <int kRows>
KD_INLINE void factor_held(const kd_arguments& a, float* vectors) {
  const Sizes size = sizes_of(a);
  const long which = blockIdx.x;
  const Held at = {(const float*)a.inputs[0] + which * size.m * size.n,
                   size.mode == kOnlyR ? nullptr : (float*)a.outputs[0] + which * size.m * size.tall,
                   (float*)a.outputs[1] + which * size.tall * size.n};
  const int spoilt = factor_matrix<kRows>(at, size, vectors, false);
  if (threadIdx.x == 0 && threadIdx.y == 0) ((int*)a.outputs[2])[which] = spoilt < size.n ? spoilt + 1 : 0;
}

extern __shared__ float4 shared[];

extern "C" __global__ void __launch_bounds__(512) mlx_kd_qr_16(const __grid_constant__ kd_arguments a) {
  factor_held<16>(a, (float*)shared);
}
extern "C" __global__ void __launch_bounds__(512) mlx_kd_qr_32(const __grid_constant__ kd_arguments a) {
  factor_held<32>(a, (float*)shared);
}
extern "C" __global__ void __launch_bounds__(256, 2) mlx_kd_qr_64(const __grid_constant__ kd_arguments a) {
  factor_held<64>(a, (float*)shared);
}
