// min, max, abs, clamp and their like, for floats and integers; the geometric and relational ones.
// Arguments have one type: max(1.0f, 2) is ambiguous in Metal and refused here.
#pragma once

namespace metal {

template <class A, kd_if<kd_is_scalar<A>> = 0>
KD_FN constexpr A max(A a, A b) {
  if constexpr (kd_is_float<A>)
    return A(KD_F(fmaxf)(float(a), float(b)));
  else
    return a < b ? b : a;
}
template <class A, kd_if<kd_is_scalar<A>> = 0>
KD_FN constexpr A min(A a, A b) {
  if constexpr (kd_is_float<A>)
    return A(KD_F(fminf)(float(a), float(b)));
  else
    return b < a ? b : a;
}
#define KD_EACH_TWO(name)                                                  \
  template <class A, class B, class V = kd_joint<A, B>>                    \
  KD_FN constexpr V name(A a, B b) {                                       \
    typedef decltype(kd_element(static_cast<V*>(nullptr))) T;              \
    V r;                                                                   \
    for (int i = 0; i < kd_width<V>; ++i)                                  \
      r[i] = name(T(kd_component(a, i)), T(kd_component(b, i)));           \
    return r;                                                              \
  }
KD_EACH_TWO(max) KD_EACH_TWO(min)

template <class A, kd_if<kd_is_scalar<A>> = 0>
KD_FN constexpr A abs(A a) {
  if constexpr (kd_is_float<A>)
    return A(KD_F(fabsf)(float(a)));
  else if constexpr (kd_is_signed<A>)
    return a < A(0) ? A(-a) : a;
  else
    return a;
}
template <class A, kd_if<kd_is_scalar<A>> = 0>
KD_FN constexpr A max3(A a, A b, A c) { return max(max(a, b), c); }
template <class A, kd_if<kd_is_scalar<A>> = 0>
KD_FN constexpr A min3(A a, A b, A c) { return min(min(a, b), c); }
template <class A, kd_if<kd_is_scalar<A>> = 0>
KD_FN constexpr A median3(A a, A b, A c) {
  return max(min(a, b), min(max(a, b), c));
}
#define KD_FLOAT_THREE(name, of)                                          \
  template <class A, kd_if<kd_is_float<A>> = 0>                           \
  KD_FN constexpr A name(A a, A b, A c) { return of(a, b, c); }
KD_FLOAT_THREE(fmax3, max3) KD_FLOAT_THREE(fmin3, min3) KD_FLOAT_THREE(fmedian3, median3)
#undef KD_FLOAT_THREE
// Integer arguments beside a scalar follow its type only if they are of that type.
template <class A, kd_if<kd_is_scalar<A>> = 0>
KD_FN constexpr A clamp(A x, A low, A high) { return min(max(x, low), high); }
template <class T, int N>
KD_FN constexpr vec<T, N> clamp(vec<T, N> x, kd_given<vec<T, N>> low, kd_given<vec<T, N>> high) {
  return min(max(x, low), high);
}
template <class A, kd_if<kd_is_float<A>> = 0>
KD_FN A mix(A a, A b, kd_given<A> t) { return A(float(a) + (float(b) - float(a)) * float(t)); }
template <class A, kd_if<kd_is_float<A>> = 0>
KD_FN A step(A edge, A x) { return float(x) < float(edge) ? A(0) : A(1); }
template <class A, kd_if<kd_is_float<A>> = 0>
KD_FN A smoothstep(A low, A high, A x) {
  const float t = kd_saturate((float(x) - float(low)) / (float(high) - float(low)));
  return A(t * t * (3.0f - 2.0f * t));
}
KD_EACH_TWO(step)
#undef KD_EACH_TWO
#define KD_EACH_ONE(name)                              \
  template <class T, int N>                            \
  KD_FN constexpr vec<T, N> name(vec<T, N> a) {        \
    vec<T, N> r;                                       \
    for (int i = 0; i < N; ++i) r[i] = name(a[i]);     \
    return r;                                          \
  }
#define KD_EACH_THREE(name)                                              \
  template <class T, int N>                                              \
  KD_FN vec<T, N> name(vec<T, N> a, vec<T, N> b, vec<T, N> c) {          \
    vec<T, N> r;                                                         \
    for (int i = 0; i < N; ++i) r[i] = name(a[i], b[i], c[i]);           \
    return r;                                                            \
  }
KD_EACH_ONE(abs)
KD_EACH_THREE(max3) KD_EACH_THREE(min3) KD_EACH_THREE(median3) KD_EACH_THREE(smoothstep)
KD_EACH_THREE(fmax3) KD_EACH_THREE(fmin3) KD_EACH_THREE(fmedian3)
template <class T, int N>
KD_FN vec<T, N> mix(vec<T, N> a, vec<T, N> b, kd_given<vec<T, N>> t) {
  vec<T, N> r;
  for (int i = 0; i < N; ++i) r[i] = mix(a[i], b[i], t[i]);
  return r;
}

template <class A, kd_if<kd_is_scalar<A>> = 0>
KD_FN constexpr A select(A no, A yes, bool condition) { return condition ? yes : no; }
template <class T, int N>
KD_FN constexpr vec<T, N> select(vec<T, N> no, vec<T, N> yes, vec<bool, N> condition) {
  vec<T, N> r;
  for (int i = 0; i < N; ++i) r[i] = condition[i] ? yes[i] : no[i];
  return r;
}
template <class T, int N>
KD_FN constexpr vec<T, N> select(vec<T, N> no, vec<T, N> yes, bool condition) {
  return condition ? yes : no;
}
template <int N>
KD_FN constexpr bool any(vec<bool, N> a) {
  bool r = false;
  for (int i = 0; i < N; ++i) r = r || a[i];
  return r;
}
template <int N>
KD_FN constexpr bool all(vec<bool, N> a) {
  bool r = true;
  for (int i = 0; i < N; ++i) r = r && a[i];
  return r;
}
KD_FN constexpr bool any(bool a) { return a; }
KD_FN constexpr bool all(bool a) { return a; }

template <class T, int N, kd_if<kd_is_float<T>> = 0>
KD_FN T dot(vec<T, N> a, vec<T, N> b) {
  float sum = 0;
  for (int i = 0; i < N; ++i) sum += float(a[i]) * float(b[i]);
  return T(sum);
}
template <class T, int N, kd_if<kd_is_float<T>> = 0>
KD_FN T length_squared(vec<T, N> a) { return dot(a, a); }
template <class T, int N, kd_if<kd_is_float<T>> = 0>
KD_FN T length(vec<T, N> a) {
  float sum = 0;
  for (int i = 0; i < N; ++i) sum += float(a[i]) * float(a[i]);
  return T(KD_F(sqrtf)(sum));
}
template <class T, int N, kd_if<kd_is_float<T>> = 0>
KD_FN T distance(vec<T, N> a, vec<T, N> b) { return length(a - b); }
template <class T, int N, kd_if<kd_is_float<T>> = 0>
KD_FN T distance_squared(vec<T, N> a, vec<T, N> b) { return length_squared(a - b); }
template <class T, int N, kd_if<kd_is_float<T>> = 0>
KD_FN vec<T, N> normalize(vec<T, N> a) {
  float sum = 0;
  for (int i = 0; i < N; ++i) sum += float(a[i]) * float(a[i]);
  return a * T(kd_rsqrt(sum));
}
template <class T, kd_if<kd_is_float<T>> = 0>
KD_FN vec<T, 3> cross(vec<T, 3> a, vec<T, 3> b) {
  return vec<T, 3>(a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x);
}
template <class T, int N, kd_if<kd_is_float<T>> = 0>
KD_FN vec<T, N> reflect(vec<T, N> i, vec<T, N> n) { return i - n * T(float(2) * float(dot(n, i))); }
template <class T, int N, kd_if<kd_is_float<T>> = 0>
KD_FN vec<T, N> faceforward(vec<T, N> n, vec<T, N> i, vec<T, N> reference) {
  return float(dot(reference, i)) < 0.0f ? n : -n;
}
template <class T, int N, kd_if<kd_is_float<T>> = 0>
KD_FN vec<T, N> refract(vec<T, N> i, vec<T, N> n, T eta) {
  const float e = float(eta), d = float(dot(n, i)), k = 1.0f - e * e * (1.0f - d * d);
  if (k < 0.0f) return vec<T, N>(T(0));
  return i * eta - n * T(e * d + KD_F(sqrtf)(k));
}

template <class A, kd_if<kd_is_float<A>> = 0>
KD_FN bool isordered(A a, A b) { return a == a && b == b; }
template <class A, kd_if<kd_is_float<A>> = 0>
KD_FN bool isunordered(A a, A b) { return !isordered(a, b); }
#define KD_EACH_TEST(name)                                                    \
  template <class T, int N>                                                   \
  KD_FN vec<bool, N> name(vec<T, N> a, vec<T, N> b) {                         \
    vec<bool, N> r;                                                           \
    for (int i = 0; i < N; ++i) r[i] = name(a[i], b[i]);                      \
    return r;                                                                 \
  }
KD_EACH_TEST(isordered) KD_EACH_TEST(isunordered)
#undef KD_EACH_TEST
#undef KD_EACH_ONE
#undef KD_EACH_THREE

// They differ from the plain ones in what they do with NaN, and here not at all.
#define KD_COMMON                                                                    \
  using metal::abs; using metal::clamp; using metal::max; using metal::min;          \
  using metal::max3; using metal::min3; using metal::median3; using metal::fmax3;    \
  using metal::fmin3; using metal::fmedian3;                                         \
  using metal::distance; using metal::length; using metal::normalize;
namespace precise {
KD_COMMON
}
namespace fast {
KD_COMMON
}
#undef KD_COMMON

}  // namespace metal
