// clang-format off
// Systems on the triangle of each matrix of a batch that is read: solve_triangular, tri_inv, cholesky_solve and
// cholesky_inv.
#pragma once
#include "large.cu.h"

#ifndef KD_DIM_n
#define KD_DIM_n 1
#define KD_DIM_upper 2
#endif

struct Triangle {
  const float* from;
  int n;
  bool upper, is_unit;
};

KD_INLINE Triangle triangle_of(const kd_arguments& a, bool is_unit = false) {
  const int n = (int)a.dims[KD_DIM_n];
  return {(const float*)a.inputs[0] + (long)blockIdx.x * n * n, n, a.dims[KD_DIM_upper] != 0, is_unit};
}

// Of the triangle, and 0 beyond it.
KD_INLINE float element_of(const Triangle& t, int i, int j) {
  return (t.upper ? j >= i : j <= i) ? t.from[(long)i * t.n + j] : 0.0f;
}

// Of a factor: the other triangle is its transpose.
KD_INLINE float element_of_factor(const Triangle& t, int i, int j) {
  const bool is_read = t.upper ? j >= i : j <= i;
  return t.from[is_read ? (long)i * t.n + j : (long)j * t.n + i];
}

// The right sides of input 1, k columns.
KD_INLINE const float* sides_of(const kd_arguments& a, int n, int k) {
  return (const float*)a.inputs[1] + (long)blockIdx.x * n * k;
}

// What an operator solves with a triangle: for k right sides `b` (I if null), the lower triangle of element(i, j) if
// `forward`, then its upper one if `backward`.
template <class Element>
struct Turns {
  int k;
  const float* b;
  bool forward, backward;
  Element element;
};
template <class Element>
KD_INLINE Turns<Element> turns_of(int k, const float* b, bool forward, bool backward, Element element) {
  return {k, b, forward, backward, element};
}

template <class Element>
KD_INLINE void solve_triangles(const kd_arguments& a, const Triangle& t, const Turns<Element>& turns) {
  __shared__ Table table;
  const int failed = examine(t.from, t.n, t.upper, t.is_unit, table);
  const Matrix work = load(in_shared_memory(), t.n, t.n, turns.k, turns.b, turns.element);
  if (!failed && turns.forward) substitute<true>(work, t.n, turns.k, t.is_unit);
  if (!failed && turns.backward) substitute<false>(work, t.n, turns.k, t.is_unit);
  store_sides(a, work, t.n, turns.k, failed);
}

// The same for a matrix that does not fit into shared memory: block y of its rows, then of its right sides.
template <class Element>
KD_INLINE void load_triangle(const kd_arguments& a, const Triangle& t, const Turns<Element>& turns) {
  const Large l = large_of(a, t.n, t.n, turns.k);
  load_rows(l, t.n, t.n, turns.k, turns.b, turns.element);
  const int first = blockIdx.y * kBlock;
  note_least(l, first_bad_row(t.from, first, min(t.n, first + kBlock), t.n, t.upper, t.is_unit));
}
template <class Element>
KD_INLINE void solve_columns(const kd_arguments& a, const Triangle& t, const Turns<Element>& turns) {
  const Large l = large_of(a, t.n, t.n, turns.k);
  const int least = least_found(l), failed = least < t.n ? least + 1 : 0;
  if (!failed && turns.forward) substitute_columns<true>(l, t.n, t.is_unit);
  if (!failed && turns.backward) substitute_columns<false>(l, t.n, t.is_unit);
  store_columns(a, l, t.n, turns.k, failed);
}

// The kernels of an operator that says what it solves, turns_of(a, t), with the triangle `triangle`.
#define KD_TRIANGLE_KERNELS(name, triangle)    \
  KD_KERNEL(name) {                            \
    const Triangle t = triangle;               \
    solve_triangles(a, t, turns_of(a, t));     \
  }                                            \
  KD_KERNEL(name##_load) {                     \
    const Triangle t = triangle;               \
    load_triangle(a, t, turns_of(a, t));       \
  }                                            \
  KD_KERNEL(name##_sides) {                    \
    const Triangle t = triangle;               \
    solve_columns(a, t, turns_of(a, t));       \
  }
