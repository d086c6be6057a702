// matrix<T, C, R>: C columns of R rows.
#pragma once

namespace metal {

template <class T, int C, int R>
struct matrix {
  vec<T, R> columns[C];
  matrix() = default;
  KD_FN constexpr explicit matrix(T diagonal) {
    for (int c = 0; c < C; ++c)
      for (int r = 0; r < R; ++r) columns[c][r] = c == r ? diagonal : T(0);
  }
  template <class... V, kd_if<sizeof...(V) == C && C != 1 && ((kd_width<V> == R) && ...)> = 0>
  KD_FN constexpr matrix(V... given) {
    int c = 0;
    ((columns[c++] = vec<T, R>(given)), ...);
  }
  template <class... S, kd_if<sizeof...(S) == C * R && (kd_is_scalar<S> && ...)> = 0, class = void>
  KD_FN constexpr matrix(S... given) {
    int i = 0;
    ((columns[i / R][i % R] = T(given), ++i), ...);
  }
  template <class A, kd_if<!kd_same<A, T>> = 0>
  KD_FN constexpr explicit matrix(const matrix<A, C, R>& a) {
    for (int c = 0; c < C; ++c) columns[c] = vec<T, R>(a[c]);
  }
  KD_FN constexpr vec<T, R>& operator[](int c) { return columns[c]; }
  KD_FN constexpr const vec<T, R>& operator[](int c) const { return columns[c]; }
};

template <class T, int C, int R>
KD_FN matrix<T, C, R> operator+(matrix<T, C, R> a, matrix<T, C, R> b) {
  for (int c = 0; c < C; ++c) a[c] = a[c] + b[c];
  return a;
}
template <class T, int C, int R>
KD_FN matrix<T, C, R> operator-(matrix<T, C, R> a, matrix<T, C, R> b) {
  for (int c = 0; c < C; ++c) a[c] = a[c] - b[c];
  return a;
}
template <class T, int C, int R>
KD_FN matrix<T, C, R> operator*(matrix<T, C, R> a, kd_given<T> s) {
  for (int c = 0; c < C; ++c) a[c] = a[c] * s;
  return a;
}
template <class T, int C, int R>
KD_FN matrix<T, C, R> operator*(kd_given<T> s, matrix<T, C, R> a) { return a * s; }
template <class T, int C, int R>
KD_FN vec<T, R> operator*(matrix<T, C, R> a, vec<T, C> v) {
  vec<T, R> sum = a[0] * v[0];
  for (int c = 1; c < C; ++c) sum = sum + a[c] * v[c];
  return sum;
}
template <class T, int C, int R>
KD_FN vec<T, C> operator*(vec<T, R> v, matrix<T, C, R> a) {
  vec<T, C> r;
  for (int c = 0; c < C; ++c) r[c] = dot(v, a[c]);
  return r;
}
template <class T, int C, int K, int R>
KD_FN matrix<T, C, R> operator*(matrix<T, K, R> a, matrix<T, C, K> b) {
  matrix<T, C, R> r;
  for (int c = 0; c < C; ++c) r[c] = a * b[c];
  return r;
}
template <class T, int C, int R>
KD_FN matrix<T, R, C> transpose(matrix<T, C, R> a) {
  matrix<T, R, C> r;
  for (int c = 0; c < C; ++c)
    for (int k = 0; k < R; ++k) r[k][c] = a[c][k];
  return r;
}
template <class T>
KD_FN T determinant(matrix<T, 2, 2> a) { return a[0].x * a[1].y - a[1].x * a[0].y; }
template <class T>
KD_FN T determinant(matrix<T, 3, 3> a) { return dot(a[0], cross(a[1], a[2])); }
template <class T>
KD_FN T determinant(matrix<T, 4, 4> a) {
  T sum = T(0);
  for (int skip = 0; skip < 4; ++skip) {
    matrix<T, 3, 3> minor;
    for (int c = 1; c < 4; ++c)
      for (int r = 0, to = 0; r < 4; ++r)
        if (r != skip) minor[c - 1][to++] = a[c][r];
    const T part = a[0][skip] * determinant(minor);
    sum = skip & 1 ? sum - part : sum + part;
  }
  return sum;
}

#define KD_MATRICES(T)                                                                         \
  typedef matrix<T, 2, 2> T##2x2;                                                              \
  typedef matrix<T, 2, 3> T##2x3;                                                              \
  typedef matrix<T, 2, 4> T##2x4;                                                              \
  typedef matrix<T, 3, 2> T##3x2;                                                              \
  typedef matrix<T, 3, 3> T##3x3;                                                              \
  typedef matrix<T, 3, 4> T##3x4;                                                              \
  typedef matrix<T, 4, 2> T##4x2;                                                              \
  typedef matrix<T, 4, 3> T##4x3;                                                              \
  typedef matrix<T, 4, 4> T##4x4;
KD_MATRICES(float) KD_MATRICES(half)
#undef KD_MATRICES

}  // namespace metal
