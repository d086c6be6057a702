// eigh: A = V diag(w) V^T of each symmetric matrix of a batch, w ascending.
//
// input a (batch, n, n); outputs w (batch, n), v (batch, n, n) or (batch, 0, 0), info (batch). The
// stage is how many matrices a task has; they are taken kLanes at a time (tridiagonal.cpu.h), in a
// scratch of the task's own, scaled so that the largest element is in [1, 2).
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16, 8 float64
#endif
#ifndef VEC
#define VEC 16  // bytes of a vector
#endif
#ifndef SWEEPS
#define SWEEPS 8  // whose rotations are kept, then applied
#endif
#ifndef WIDE
#define WIDE 4  // vectors of columns that are worked on together
#endif

#include "../../common/kd_arguments.h"

#ifndef KD_DIM_n
#define KD_DIM_batch 0
#define KD_DIM_n 1
#define KD_DIM_upper 2
#define KD_DIM_values 3
#endif

#include "../tridiagonal.cpu.h"

constexpr double kSmall = KD_DTYPE == 8 ? 0x1p-55 : 0x1p-28;

// The matrix whose one triangle is read, scaled, to x.a; 0 where an element is not finite.
static Float load_symmetric(const Eigen& x, const T* a, bool upper) {
  const long n = x.n, columns = padded(n);
  Float largest = 0, spoilt = 0;
  for (long i = 0; i < n; ++i) {
    Float* const row = x.a + i * x.stride;
    const long from = upper ? i : 0, to = upper ? n : i + 1;
    for (long j = 0; j < columns; ++j) row[j] = 0;
    for (long j = from; j < to; ++j) {
      row[j] = widen(a[i * n + j]);
      const Float size = magnitude(row[j]);
      largest = size > largest ? size : largest;
      spoilt += row[j] * 0;
    }
  }
  if (spoilt != 0) return 0;
  const Float scale = power_near(largest);
  for (long i = 0; i < n; ++i)
    for (long j = 0; j <= i; ++j) {
      Float& low = x.a[i * x.stride + j];
      Float& high = x.a[j * x.stride + i];
      low = high = (upper ? high : low) / scale;
    }
  return scale;
}

static void store_result(const kd_arguments* a, const Eigen& x, int lane, long m, Float scale,
                         int info) {
  const long n = x.n;
  const bool values = a->dims[KD_DIM_values];
  T* const w = (T*)a->outputs[0] + m * n;
  T* const v = (T*)a->outputs[1] + m * n * n;
  ((int*)a->outputs[2])[m] = info;
  if (info) {
    store_nan(w, n);
    if (!values) store_nan(v, n * n);
    return;
  }
  int* const order = (int*)x.w;
  sort_values(x, lane, order);
  for (long i = 0; i < n; ++i) w[i] = narrow(Float(x.t.d[order[i] * kLanes + lane] * scale));
  if (values) return;
  for (long i0 = 0; i0 < n; i0 += kLine)
    for (long j = 0; j < n; ++j) {
      const Float* const row = x.z[lane] + order[j] * x.stride;
      const long end = i0 + kLine < n ? i0 + kLine : n;
      for (long i = i0; i < end; ++i) v[i * n + j] = narrow(row[i]);
    }
}

extern "C" void mlx_kd_eigh(const kd_arguments* a, long begin, long end) {
  const long n = a->dims[KD_DIM_n];
  const bool values = a->dims[KD_DIM_values];
  const Eigen x = eigen_at((Float*)a->scratch[0] + begin / a->stage * eigen_floats(n), n, kSmall);
  for (long m = begin; m < end; m += kLanes) {
    const int lanes = int(end - m < kLanes ? end - m : kLanes);
    Float scale[kLanes];
    for (int l = 0; l < lanes; ++l) {
      scale[l] = load_symmetric(x, (const T*)a->inputs[0] + (m + l) * n * n, a->dims[KD_DIM_upper]);
      if (scale[l] == 0)
        for (long i = 0; i < n * x.stride; ++i) x.a[i] = 0;
      make_tridiagonal(x, l);
      if (!values) make_vectors(x, x.z[l]);
    }
    const unsigned failed = solve_tridiagonal(x, lanes, !values);
    for (int l = 0; l < lanes; ++l)
      store_result(a, x, l, m + l, scale[l], scale[l] == 0 ? 1 : failed >> l & 1 ? 2 : 0);
  }
}
