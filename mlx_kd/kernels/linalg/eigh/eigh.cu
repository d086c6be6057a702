// eigh: A = V diag(w) V^T of each symmetric matrix of a batch, w ascending, by one-sided Jacobi (jacobi.cu.h).
//
// A group of threads takes one matrix. B = A + move I, with `move` above A's largest eigenvalue in magnitude, is
// positive definite: the rows of B are turned until they are those of B V. Their norms, over those of V, are the
// eigenvalues of B, and V's columns are the eigenvectors of A too. The functions differ in the floats of a row in a thread's
// registers; mlx_kd_eigh takes any length.
//
// Grid: groups of (threads of a pair, pairs), one for each matrix in x. Scratch: B and V, if they are not in shared
// memory, in rows of a multiple of 4 floats, and two lists of norms.
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif

#include "../../common/kd_arguments.h"
#include "../../common/numbers.cu.h"
#include "../jacobi.cu.h"

#ifndef KD_DIM_n
#define KD_DIM_n 1
#define KD_DIM_upper 2
#define KD_DIM_values 3
#endif

extern __shared__ float4 shared[];

KD_INLINE long floats_of(int n, bool has_vectors) {
  return (long)n * quads(n) * (has_vectors ? 2 : 1) + 2 * quads(n);
}

struct Problem {
  int n;
  bool upper, has_vectors;
  const T* from;
};

// An element of the triangle that is read, or of its mirror.
KD_INLINE float element(const Problem& a, int i, int j) {
  const bool is_read = a.upper ? j >= i : j <= i;
  return widen(a.from[is_read ? (long)i * a.n + j : (long)j * a.n + i]);
}

KD_INLINE unsigned largest_element(const Problem& a) {
  unsigned most = 0;
  for (int i = warp_of(); i < a.n; i += warp_count())
    for (int j = thread_of() % 32; j < a.n; j += 32)
      most = max(most, __float_as_uint(element(a, i, j)) & 0x7fffffffu);
  return largest_of_group(most);
}

// B and I. Returns `move`: 1.1 times the largest sum of magnitudes of a row.
KD_INLINE float prepare(const Problem& a, float scale, const Rows& b, const Rows& v) {
  unsigned most = 0;
  for (int i = warp_of(); i < a.n; i += warp_count()) {
    float sum = 0.0f;
    for (int j = thread_of() % 32; j < b.wide; j += 32) {
      const float x = j < a.n ? element(a, i, j) * scale : 0.0f;
      b.at[(long)i * b.wide + j] = x;
      if (a.has_vectors) v.at[(long)i * b.wide + j] = i == j ? 1.0f : 0.0f;
      sum += fabsf(x);
    }
    most = max(most, __float_as_uint(sum_of_warp(sum)));
  }
  const float widest = __uint_as_float(largest_of_group(most)), move = widest > 0.0f ? 1.1f * widest : 1.0f;
  for (int i = thread_of(); i < a.n; i += thread_count()) b.at[(long)i * b.wide + i] += move;
  __syncthreads();
  return move;
}

// Of a row, by a warp.
KD_INLINE float norm_of(const Rows& rows, int i) {
  float square = 0.0f;
  for (int j = thread_of() % 32; j < rows.length; j += 32) {
    const float x = rows.at[(long)i * rows.wide + j];
    square += x * x;
  }
  return sqrtf(sum_of_warp(square));
}

// norms: of B's rows over those of V's, then 1 over those of V's.
KD_INLINE void store(const Problem& a, const Rows& v, const float* norms, float move, float back, T* w, T* vectors) {
  const float* const inverses = norms + quads(a.n);
  for (int j = warp_of(); j < a.n; j += warp_count()) {
    int before = 0;
    for (int i = thread_of() % 32; i < a.n; i += 32)
      before += norms[i] < norms[j] || (norms[i] == norms[j] && i < j);
    before = (int)sum_of_warp((float)before);
    if (thread_of() % 32 == 0) w[before] = narrow((norms[j] - move) * back);
    for (int i = thread_of() % 32; i < a.n && a.has_vectors; i += 32)
      vectors[(long)i * a.n + before] = narrow(inverses[j] * v.at[(long)j * v.wide + i]);
  }
}

KD_INLINE void store_failure(const Problem& a, T* w, T* vectors) {
  for (int i = thread_of(); i < a.n; i += thread_count()) w[i] = narrow(not_a_number());
  for (long e = thread_of(); e < (long)a.n * a.n && a.has_vectors; e += thread_count())
    vectors[e] = narrow(not_a_number());
}

template <int kQuads>
KD_INLINE void decompose(const kd_arguments& a, float* memory) {
  const int n = (int)a.dims[KD_DIM_n];
  const long which = blockIdx.x;
  const Problem problem = {n, a.dims[KD_DIM_upper] != 0, a.dims[KD_DIM_values] == 0, (const T*)a.inputs[0] + which * n * n};
  T *const w = (T*)a.outputs[0] + which * n, *const vectors = (T*)a.outputs[1] + (problem.has_vectors ? which * n * n : 0);
  const Rows b = {memory, n, n, quads(n)};
  const Rows v = {memory + (long)n * b.wide, problem.has_vectors ? n : 0, n, b.wide};
  float* const norms = memory + (long)n * b.wide * (problem.has_vectors ? 2 : 1);
  const unsigned largest = largest_element(problem);
  int failed = largest >= 0x7f800000u ? 1 : 0;
  const Scale scale = scale_of(largest);
  float move = 0.0f;
  if (!failed) {
    move = prepare(problem, scale.to, b, v);
    failed = make_orthogonal<kQuads>(b, v) ? 0 : 2;
  }
  if (thread_of() == 0) ((int*)a.outputs[2])[which] = failed;
  if (failed) return store_failure(problem, w, vectors);
  for (int i = warp_of(); i < n; i += warp_count()) {
    const float inverse = problem.has_vectors ? 1.0f / norm_of(v, i) : 1.0f, norm = inverse * norm_of(b, i);
    if (thread_of() % 32 == 0) norms[i] = norm, norms[quads(n) + i] = inverse;
  }
  __syncthreads();
  store(problem, v, norms, move, scale.back, w, vectors);
}

template <int kQuads>
KD_INLINE void run(const kd_arguments& a) {
  const long floats = floats_of((int)a.dims[KD_DIM_n], a.dims[KD_DIM_values] == 0);
  if (floats <= SHARED * 256L)
    decompose<kQuads>(a, (float*)shared);
  else
    decompose<kQuads>(a, (float*)a.scratch[0] + blockIdx.x * floats);
}

extern "C" __global__ void __launch_bounds__(1024) mlx_kd_eigh(const __grid_constant__ kd_arguments a) {
  run<0>(a);
}
extern "C" __global__ void __launch_bounds__(1024) mlx_kd_eigh_1(const __grid_constant__ kd_arguments a) {
  run<1>(a);
}
extern "C" __global__ void __launch_bounds__(1024) mlx_kd_eigh_2(const __grid_constant__ kd_arguments a) {
  run<2>(a);
}
extern "C" __global__ void __launch_bounds__(1024) mlx_kd_eigh_4(const __grid_constant__ kd_arguments a) {
  run<4>(a);
}
