// svd: A = U diag(s) V^T of each matrix of a batch, s >= 0 and descending, by one-sided Jacobi (jacobi.cu.h).
//
// A group of threads takes one matrix. Let X be A, or A^T if m < n: k columns of `length` elements, which are rows in
// memory. They are turned until they are orthogonal; their norms are the singular values. Vectors that are missing
// (those of singular values of 0, and all of U and V^T beyond k if `form` is 0) are unit vectors less their parts
// along the others. The functions differ in the floats of a row in a thread's registers; mlx_kd_svd
// takes any length.
//
// Grid: groups of (threads of a pair, pairs), one for each matrix in x. Scratch: what is not in shared memory:
// `rows` rows of X^T and k of V, both of a multiple of 4 floats, then norms, places, and two lists of the vectors.
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif

#include "../../common/kd_arguments.h"
#include "../../common/numbers.cu.h"
#include "../jacobi.cu.h"

#ifndef KD_DIM_m
#define KD_DIM_m 1
#define KD_DIM_n 2
#define KD_DIM_form 3
#endif

extern __shared__ float4 shared[];

struct Problem {
  int m, n, form, k, length, rows, wide, high;  // of A; of X; columns of U, rows of V^T
  const T* from;
  T *u, *s, *vt;
};

KD_INLINE Problem problem_of(const kd_arguments& a, long which) {
  const int m = (int)a.dims[KD_DIM_m], n = (int)a.dims[KD_DIM_n], form = (int)a.dims[KD_DIM_form];
  const int k = min(m, n), length = max(m, n), wide = form == 0 ? m : k, high = form == 0 ? n : k;
  return {m, n, form, k, length, form == 0 ? length : k, wide, high, (const T*)a.inputs[0] + which * m * n,
          (T*)a.outputs[0] + (form == 2 ? 0 : which * m * wide), (T*)a.outputs[1] + which * k,
          (T*)a.outputs[2] + (form == 2 ? 0 : which * high * n)};
}

KD_INLINE long floats_of(const Problem& a) {
  const long vectors = a.form == 2 ? 0 : (long)a.k * quads(a.k);
  return (long)a.rows * quads(a.length) + vectors + 2 * quads(a.k) + quads(a.length) + quads(a.rows);
}

// In the order of memory.
struct Work {
  Rows g, z;
  float *norms, *left, *along;
  int* places;
};

KD_INLINE Work work_of(const Problem& a, float* memory) {
  Work work;
  work.g = {memory, a.k, a.length, quads(a.length)};
  work.z = {memory + (long)a.rows * work.g.wide, a.form == 2 ? 0 : a.k, a.k, quads(a.k)};
  work.norms = work.z.at + (long)work.z.count * work.z.wide;
  work.places = (int*)(work.norms + quads(a.k));
  work.left = work.norms + 2 * quads(a.k);
  work.along = work.left + quads(a.length);
  return work;
}

KD_INLINE unsigned largest_element(const Problem& a) {
  unsigned most = 0;
  for (long e = thread_of(); e < (long)a.m * a.n; e += thread_count())
    most = max(most, __float_as_uint(widen(a.from[e])) & 0x7fffffffu);
  return largest_of_group(most);
}

KD_INLINE void prepare(const Problem& a, float scale, const Work& work) {
  for (long e = thread_of(); e < (long)a.m * a.n; e += thread_count()) {
    const int i = (int)(e / a.n), j = (int)(e % a.n);
    const float x = widen(a.from[e]) * scale;
    work.g.at[a.m < a.n ? (long)i * work.g.wide + j : (long)j * work.g.wide + i] = x;
  }
  for (int j = warp_of(); j < a.rows; j += warp_count())  // what fills the lines
    for (int i = thread_of() % 32; i < work.g.wide; i += 32)
      if (j >= a.k || i >= a.length) work.g.at[(long)j * work.g.wide + i] = 0.0f;
  for (long e = thread_of(); e < (long)work.z.count * work.z.wide; e += thread_count())
    work.z.at[e] = e / work.z.wide == e % work.z.wide ? 1.0f : 0.0f;
  __syncthreads();
}

KD_INLINE float dot(const float* x, const float* y, int length) {
  float sum = 0.0f;
  for (int i = thread_of() % 32; i < length; i += 32) sum += x[i] * y[i];
  return sum_of_warp(sum);
}

// Norms, their places in descending order, and s.
KD_INLINE void sort(const Problem& a, float back, const Work& work) {
  for (int j = warp_of(); j < a.k; j += warp_count()) {
    const float* const row = work.g.at + (long)j * work.g.wide;
    const float square = dot(row, row, a.length);
    if (thread_of() % 32 == 0) work.norms[j] = square > 1e-32f ? sqrtf(square) : 0.0f;
  }
  __syncthreads();
  for (int j = thread_of(); j < a.k; j += thread_count()) {
    const float norm = work.norms[j];
    int before = 0;
    for (int i = 0; i < a.k; ++i) before += work.norms[i] > norm || (work.norms[i] == norm && i < j);
    work.places[j] = before;
    a.s[before] = narrow(norm * back);
  }
  __syncthreads();
}

// Row p of g: what the unit vector that has most left has beside the other rows, made orthogonal three times.
KD_INLINE void complete_row(const Problem& a, const Work& work, int p, int best) {
  float* const row = work.g.at + (long)p * work.g.wide;
  for (int pass = 0; pass < 3; ++pass) {
    for (int j = warp_of(); j < a.rows; j += warp_count()) {
      const float* const other = work.g.at + (long)j * work.g.wide;
      const float product = pass == 0 ? other[best] : dot(other, row, a.length);
      if (thread_of() % 32 == 0) work.along[j] = j == p ? 0.0f : product;
    }
    __syncthreads();
    for (int i = thread_of(); i < a.length; i += thread_count()) {
      float x = pass == 0 ? (i == best ? 1.0f : 0.0f) : row[i];
      for (int j = 0; j < a.rows; ++j)
        if (j != p) x -= work.along[j] * work.g.at[(long)j * work.g.wide + i];
      row[i] = x;
    }
    __syncthreads();
    const float inverse = 1.0f / sqrtf(dot(row, row, a.length));
    __syncthreads();
    for (int i = thread_of(); i < a.length; i += thread_count()) {
      row[i] *= inverse;
      if (pass == 2) work.left[i] -= row[i] * row[i];
    }
    __syncthreads();
  }
}

KD_INLINE void normalise_and_complete(const Problem& a, const Work& work) {
  for (int j = warp_of(); j < a.rows; j += warp_count()) {
    const float norm = j < a.k ? work.norms[j] : 0.0f, inverse = norm > 0.0f ? 1.0f / norm : 0.0f;
    for (int i = thread_of() % 32; i < a.length; i += 32) {
      float& x = work.g.at[(long)j * work.g.wide + i];
      x = norm > 1e-30f ? x * inverse : norm > 0.0f ? x / norm : 0.0f;
    }
  }
  __syncthreads();
  bool is_full = a.rows == a.k;
  for (int j = 0; j < a.k && is_full; ++j) is_full = work.norms[j] > 0.0f;
  if (is_full) return;
  for (int i = thread_of(); i < a.length; i += thread_count()) {
    float rest = 1.0f;
    for (int j = 0; j < a.k; ++j) rest -= work.g.at[(long)j * work.g.wide + i] * work.g.at[(long)j * work.g.wide + i];
    work.left[i] = rest;
  }
  __syncthreads();
  for (int p = 0; p < a.rows; ++p) {
    if (p < a.k && work.norms[min(p, a.k - 1)] > 0.0f) continue;
    int best = 0;
    for (int i = 1; i < a.length; ++i) best = work.left[i] > work.left[best] ? i : best;
    __syncthreads();
    complete_row(a, work, p, best);
  }
}

KD_INLINE void store_vectors(const Problem& a, const Work& work) {
  const Rows& of_u = a.m < a.n ? work.z : work.g;
  const Rows& of_v = a.m < a.n ? work.g : work.z;
  const int in_u = a.m < a.n ? a.k : a.wide, in_v = a.m < a.n ? a.high : a.k;
  for (int j = warp_of(); j < in_u; j += warp_count()) {
    const int to = j < a.k ? work.places[min(j, a.k - 1)] : j;
    for (int i = thread_of() % 32; i < a.m; i += 32) a.u[(long)i * a.wide + to] = narrow(of_u.at[(long)j * of_u.wide + i]);
  }
  for (int j = warp_of(); j < in_v; j += warp_count()) {
    const int to = j < a.k ? work.places[min(j, a.k - 1)] : j;
    for (int i = thread_of() % 32; i < a.n; i += 32) a.vt[(long)to * a.n + i] = narrow(of_v.at[(long)j * of_v.wide + i]);
  }
}

KD_INLINE void store_failure(const Problem& a) {
  const T nothing = narrow(not_a_number());
  for (int i = thread_of(); i < a.k; i += thread_count()) a.s[i] = nothing;
  if (a.form == 2) return;
  for (long e = thread_of(); e < (long)a.m * a.wide; e += thread_count()) a.u[e] = nothing;
  for (long e = thread_of(); e < (long)a.high * a.n; e += thread_count()) a.vt[e] = nothing;
}

template <int kQuads>
KD_INLINE void decompose(const Problem& a, float* memory, int* info) {
  const Work work = work_of(a, memory);
  const unsigned largest = largest_element(a);
  const Scale scale = scale_of(largest);
  int failed = largest >= 0x7f800000u ? 1 : 0;
  if (!failed) {
    prepare(a, scale.to, work);
    failed = make_orthogonal<kQuads>(work.g, work.z) ? 0 : 2;
  }
  if (thread_of() == 0) *info = failed;
  if (failed) return store_failure(a);
  sort(a, scale.back, work);
  if (a.form == 2) return;
  normalise_and_complete(a, work);
  store_vectors(a, work);
}

template <int kQuads>
KD_INLINE void run(const kd_arguments& a) {
  const Problem problem = problem_of(a, blockIdx.x);
  const long floats = floats_of(problem);
  int* const info = (int*)a.outputs[3] + blockIdx.x;
  if (floats <= SHARED * 256L)
    decompose<kQuads>(problem, (float*)shared, info);
  else
    decompose<kQuads>(problem, (float*)a.scratch[0] + blockIdx.x * floats, info);
}

extern "C" __global__ void __launch_bounds__(1024) mlx_kd_svd(const __grid_constant__ kd_arguments a) {
  run<0>(a);
}
extern "C" __global__ void __launch_bounds__(1024) mlx_kd_svd_1(const __grid_constant__ kd_arguments a) {
  run<1>(a);
}
extern "C" __global__ void __launch_bounds__(1024) mlx_kd_svd_2(const __grid_constant__ kd_arguments a) {
  run<2>(a);
}
extern "C" __global__ void __launch_bounds__(1024) mlx_kd_svd_4(const __grid_constant__ kd_arguments a) {
  run<4>(a);
}
