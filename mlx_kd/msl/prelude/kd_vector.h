// vec<T, 2..4>, packed vectors, swizzles.
#pragma once

namespace metal {

template <class T, int N>
struct vec;
template <class T, int N>
struct packed_vec;
template <int... I>
struct kd_order {};

template <class T>
inline constexpr int kd_width = 1;  // components of a scalar or a vector
template <class T, int N>
inline constexpr int kd_width<vec<T, N>> = N;
template <class T, int N>
inline constexpr int kd_width<packed_vec<T, N>> = N;
template <class T>
inline constexpr bool kd_is_vec = false;
template <class T, int N>
inline constexpr bool kd_is_vec<vec<T, N>> = true;
template <class T>
inline constexpr bool kd_is_packed = false;
template <class T, int N>
inline constexpr bool kd_is_packed<packed_vec<T, N>> = true;

template <class A>
KD_FN constexpr auto kd_component(const A& a, int i) {
  if constexpr (kd_width<A> == 1)
    return a;
  else
    return a[i];
}

template <int... I>
inline constexpr bool kd_distinct = true;
template <int I, int... Rest>
inline constexpr bool kd_distinct<I, Rest...> = ((I != Rest) && ...) && kd_distinct<Rest...>;
template <int... I>
KD_FN constexpr bool kd_within(int n) {
  return ((I < n) && ...);
}

// Some components of a vector as the left side of an assignment.
template <class V, class T, int... I>
struct kd_place_of {
  V& to;
  static constexpr int n = sizeof...(I);
  static_assert(kd_distinct<I...>, "a swizzle that is assigned to names a component twice");
  KD_FN operator vec<T, n>() const { return vec<T, n>(to[I]...); }
  KD_FN void operator=(vec<T, n> from) const {
    int k = 0;
    ((to[I] = from[k++]), ...);
  }
#define KD_PLACE_OP(op)                               \
  template <class B>                                  \
  KD_FN void operator op##=(B b) const {              \
    *this = vec<T, n>(vec<T, n>(to[I]...) op b);      \
  }
  KD_PLACE_OP(+) KD_PLACE_OP(-) KD_PLACE_OP(*) KD_PLACE_OP(/) KD_PLACE_OP(%) KD_PLACE_OP(&)
  KD_PLACE_OP(|) KD_PLACE_OP(^) KD_PLACE_OP(<<) KD_PLACE_OP(>>)
#undef KD_PLACE_OP
};

#define KD_SWIZZLES(V, N)                                                                  \
  template <int... I>                                                                      \
  KD_FN constexpr vec<T, sizeof...(I)> swizzle(kd_order<I...>) const {                        \
    static_assert(kd_within<I...>(N), "the vector has no such component");                 \
    return vec<T, sizeof...(I)>((*this)[I]...);                                            \
  }                                                                                        \
  template <int... I>                                                                      \
  KD_FN kd_place_of<V, T, I...> place(kd_order<I...>) {                                       \
    static_assert(kd_within<I...>(N), "the vector has no such component");                 \
    return {*this};                                                                        \
  }

// From scalars and vectors that have N components in all.
#define KD_VECTOR_MAKERS(N)                                                                 \
  vec() = default;                                                                          \
  template <class A, kd_if<kd_is_scalar<A>> = 0>                                            \
  KD_FN constexpr vec(A a) {                                                                \
    for (int i = 0; i < N; ++i) (*this)[i] = T(a);                                          \
  }                                                                                         \
  template <class A, kd_if<!kd_same<A, T>> = 0>                                             \
  KD_FN constexpr explicit vec(vec<A, N> a) {                                               \
    for (int i = 0; i < N; ++i) (*this)[i] = T(a[i]);                                       \
  }                                                                                         \
  KD_FN constexpr vec(packed_vec<T, N> a) {                                                 \
    for (int i = 0; i < N; ++i) (*this)[i] = a[i];                                          \
  }                                                                                         \
  template <class A, kd_if<!kd_same<A, T>> = 0>                                             \
  KD_FN constexpr explicit vec(packed_vec<A, N> a) {                                        \
    for (int i = 0; i < N; ++i) (*this)[i] = T(a[i]);                                       \
  }                                                                                         \
  template <class A, class B, class... C,                                                   \
            kd_if<kd_width<A> + kd_width<B> + (kd_width<C> + ... + 0) == N> = 0>            \
  KD_FN constexpr vec(A a, B b, C... c) {                                                   \
    int at = 0;                                                                             \
    fill(at, a), fill(at, b), (fill(at, c), ...);                                           \
  }                                                                                         \
  template <class A>                                                                        \
  KD_FN constexpr void fill(int& at, const A& a) {                                          \
    for (int i = 0; i < kd_width<A>; ++i) (*this)[at++] = T(kd_component(a, i));            \
  }

template <class T>
struct alignas(2 * sizeof(T)) vec<T, 2> {
  T x, y;
  KD_FN constexpr T& operator[](int i) { return i == 0 ? x : y; }
  KD_FN constexpr const T& operator[](int i) const { return i == 0 ? x : y; }
  KD_VECTOR_MAKERS(2)
  KD_SWIZZLES(vec, 2)
};
template <class T>
struct alignas(4 * sizeof(T)) vec<T, 3> {
  T x, y, z;
  KD_FN constexpr T& operator[](int i) { return i == 0 ? x : i == 1 ? y : z; }
  KD_FN constexpr const T& operator[](int i) const { return i == 0 ? x : i == 1 ? y : z; }
  KD_VECTOR_MAKERS(3)
  KD_SWIZZLES(vec, 3)
};
template <class T>
struct alignas(4 * sizeof(T)) vec<T, 4> {
  T x, y, z, w;
  KD_FN constexpr T& operator[](int i) { return i == 0 ? x : i == 1 ? y : i == 2 ? z : w; }
  KD_FN constexpr const T& operator[](int i) const {
    return i == 0 ? x : i == 1 ? y : i == 2 ? z : w;
  }
  KD_VECTOR_MAKERS(4)
  KD_SWIZZLES(vec, 4)
};

template <class T>
struct packed_vec<T, 2> {
  T x, y;
  packed_vec() = default;
  KD_FN constexpr packed_vec(vec<T, 2> a) : x(a.x), y(a.y) {}
  KD_FN constexpr packed_vec(T a, T b) : x(a), y(b) {}
  KD_FN constexpr explicit packed_vec(T a) : x(a), y(a) {}
  KD_FN constexpr T& operator[](int i) { return i == 0 ? x : y; }
  KD_FN constexpr const T& operator[](int i) const { return i == 0 ? x : y; }
  KD_SWIZZLES(packed_vec, 2)
};
template <class T>
struct packed_vec<T, 3> {
  T x, y, z;
  packed_vec() = default;
  KD_FN constexpr packed_vec(vec<T, 3> a) : x(a.x), y(a.y), z(a.z) {}
  KD_FN constexpr packed_vec(T a, T b, T c) : x(a), y(b), z(c) {}
  KD_FN constexpr explicit packed_vec(T a) : x(a), y(a), z(a) {}
  KD_FN constexpr T& operator[](int i) { return i == 0 ? x : i == 1 ? y : z; }
  KD_FN constexpr const T& operator[](int i) const { return i == 0 ? x : i == 1 ? y : z; }
  KD_SWIZZLES(packed_vec, 3)
};
template <class T>
struct packed_vec<T, 4> {
  T x, y, z, w;
  packed_vec() = default;
  KD_FN constexpr packed_vec(vec<T, 4> a) : x(a.x), y(a.y), z(a.z), w(a.w) {}
  KD_FN constexpr packed_vec(T a, T b, T c, T d) : x(a), y(b), z(c), w(d) {}
  KD_FN constexpr explicit packed_vec(T a) : x(a), y(a), z(a), w(a) {}
  KD_FN constexpr T& operator[](int i) { return i == 0 ? x : i == 1 ? y : i == 2 ? z : w; }
  KD_FN constexpr const T& operator[](int i) const {
    return i == 0 ? x : i == 1 ? y : i == 2 ? z : w;
  }
  KD_SWIZZLES(packed_vec, 4)
};

// Operators: vector with vector of the same type, vector with scalar. Packed vectors act as the
// vectors that they hold.
template <class A>
struct kd_vec_of_ {};
template <class T, int N>
struct kd_vec_of_<vec<T, N>> {
  typedef vec<T, N> type;
};
template <class T, int N>
struct kd_vec_of_<packed_vec<T, N>> {
  typedef vec<T, N> type;
};
template <class A>
using kd_vec_of = typename kd_vec_of_<A>::type;
template <class A, class B>
struct kd_joint_ {};
template <class T, int N>
struct kd_joint_<vec<T, N>, vec<T, N>> {
  typedef vec<T, N> type;
};
template <class T, int N>
struct kd_joint_<vec<T, N>, packed_vec<T, N>> {
  typedef vec<T, N> type;
};
template <class T, int N>
struct kd_joint_<packed_vec<T, N>, vec<T, N>> {
  typedef vec<T, N> type;
};
template <class T, int N>
struct kd_joint_<packed_vec<T, N>, packed_vec<T, N>> {
  typedef vec<T, N> type;
};
#define KD_WITH_SCALAR(V, S)                                  \
  template <class T, int N>                                   \
  struct kd_joint_<V<T, N>, S> {                              \
    typedef vec<T, N> type;                                   \
  };                                                          \
  template <class T, int N>                                   \
  struct kd_joint_<S, V<T, N>> {                              \
    typedef vec<T, N> type;                                   \
  };
#define KD_WITH_SCALARS(S) KD_WITH_SCALAR(vec, S) KD_WITH_SCALAR(packed_vec, S)
KD_WITH_SCALARS(bool) KD_WITH_SCALARS(char) KD_WITH_SCALARS(signed char) KD_WITH_SCALARS(uchar)
KD_WITH_SCALARS(short) KD_WITH_SCALARS(ushort) KD_WITH_SCALARS(int) KD_WITH_SCALARS(uint)
KD_WITH_SCALARS(long) KD_WITH_SCALARS(ulong) KD_WITH_SCALARS(float) KD_WITH_SCALARS(half)
KD_WITH_SCALARS(bfloat)
#undef KD_WITH_SCALARS
#undef KD_WITH_SCALAR
template <class A, class B>
using kd_joint = typename kd_joint_<A, B>::type;
template <class T, int N>
KD_FN constexpr T kd_element(vec<T, N>*);

#define KD_VECTOR_OP(op)                                                            \
  template <class A, class B, class V = kd_joint<A, B>>                             \
  KD_FN constexpr V operator op(A a, B b) {                                         \
    typedef decltype(kd_element(static_cast<V*>(nullptr))) T;                       \
    V r;                                                                            \
    for (int i = 0; i < kd_width<V>; ++i)                                           \
      r[i] = T(T(kd_component(a, i)) op T(kd_component(b, i)));                     \
    return r;                                                                       \
  }                                                                                 \
  template <class A, class B, class V = kd_joint<A, B>,                             \
            kd_if<kd_is_vec<A> || kd_is_packed<A>> = 0>                             \
  KD_FN constexpr A& operator op##=(A& a, B b) {                                    \
    return a = A(a op b);                                                           \
  }
KD_VECTOR_OP(+) KD_VECTOR_OP(-) KD_VECTOR_OP(*) KD_VECTOR_OP(/) KD_VECTOR_OP(%) KD_VECTOR_OP(&)
KD_VECTOR_OP(|) KD_VECTOR_OP(^) KD_VECTOR_OP(<<) KD_VECTOR_OP(>>)
#undef KD_VECTOR_OP
// Shifts take a count of another integer type: the result has the type of what is shifted.
#define KD_VECTOR_SHIFT(op)                                                              \
  template <class T, class U, int N,                                                     \
            kd_if<kd_is_integer<T> && kd_is_integer<U> && !kd_same<T, U>> = 0>           \
  KD_FN constexpr vec<T, N> operator op(vec<T, N> a, vec<U, N> b) {                      \
    vec<T, N> r;                                                                         \
    for (int i = 0; i < N; ++i) r[i] = T(a[i] op b[i]);                                  \
    return r;                                                                            \
  }                                                                                      \
  template <class T, class U, int N,                                                     \
            kd_if<kd_is_integer<T> && kd_is_integer<U> && !kd_same<T, U>> = 0>           \
  KD_FN constexpr vec<T, N>& operator op##=(vec<T, N>& a, vec<U, N> b) {                 \
    return a = a op b;                                                                   \
  }
KD_VECTOR_SHIFT(<<) KD_VECTOR_SHIFT(>>)
#undef KD_VECTOR_SHIFT
#define KD_VECTOR_COMPARE(op)                                                       \
  template <class A, class B, class V = kd_joint<A, B>>                             \
  KD_FN constexpr vec<bool, kd_width<V>> operator op(A a, B b) {                    \
    typedef decltype(kd_element(static_cast<V*>(nullptr))) T;                       \
    vec<bool, kd_width<V>> r;                                                       \
    for (int i = 0; i < kd_width<V>; ++i)                                           \
      r[i] = T(kd_component(a, i)) op T(kd_component(b, i));                        \
    return r;                                                                       \
  }
KD_VECTOR_COMPARE(==) KD_VECTOR_COMPARE(!=) KD_VECTOR_COMPARE(<) KD_VECTOR_COMPARE(>)
KD_VECTOR_COMPARE(<=) KD_VECTOR_COMPARE(>=) KD_VECTOR_COMPARE(&&) KD_VECTOR_COMPARE(||)
#undef KD_VECTOR_COMPARE
template <class A, class V = kd_vec_of<A>>
KD_FN constexpr V operator-(A a) {
  V r;
  for (int i = 0; i < kd_width<V>; ++i) r[i] = -a[i];
  return r;
}
template <class A, class V = kd_vec_of<A>>
KD_FN constexpr V operator~(A a) {
  V r;
  for (int i = 0; i < kd_width<V>; ++i) r[i] = ~a[i];
  return r;
}
template <class A, class V = kd_vec_of<A>>
KD_FN constexpr vec<bool, kd_width<V>> operator!(A a) {
  vec<bool, kd_width<V>> r;
  for (int i = 0; i < kd_width<V>; ++i) r[i] = !a[i];
  return r;
}

#define KD_VECTORS(T)                                                                    \
  typedef vec<T, 2> T##2;                                                                \
  typedef vec<T, 3> T##3;                                                                \
  typedef vec<T, 4> T##4;                                                                \
  typedef packed_vec<T, 2> packed_##T##2;                                                \
  typedef packed_vec<T, 3> packed_##T##3;                                                \
  typedef packed_vec<T, 4> packed_##T##4;
KD_VECTORS(bool) KD_VECTORS(char) KD_VECTORS(uchar) KD_VECTORS(short) KD_VECTORS(ushort)
KD_VECTORS(int) KD_VECTORS(uint) KD_VECTORS(long) KD_VECTORS(ulong) KD_VECTORS(half)
KD_VECTORS(bfloat) KD_VECTORS(float)
#undef KD_VECTORS

// float4 v = {1, 2}: what is not given is 0.
template <class V, class... A>
KD_FN constexpr V kd_braces(A... a) {
  static_assert((kd_width<A> + ... + 0) <= kd_width<V>, "too many components for the vector");
  V v(0);
  int at = 0;
  (v.fill(at, a), ...);
  return v;
}

// The type of c ? a : b. Of a class and a type that it converts to: that type.
template <class A, class B, class = void>
struct kd_class_arm_ {
  typedef kd_either<kd_converts<B, A>, A, B> type;
};
template <class A, class B>
struct kd_class_arm_<A, B, decltype((void)(false ? kd_some<A>() : kd_some<B>()))> {
  typedef kd_plain<decltype(false ? kd_some<A>() : kd_some<B>())> type;
};
template <class A, class B, bool = kd_is_scalar<A> && kd_is_scalar<B>>
struct kd_arm_ : kd_class_arm_<A, B> {};
template <class A>
struct kd_arm_<A, A, false> {
  typedef A type;
};
template <class A>
struct kd_arm_<A, A, true> {
  typedef A type;
};
template <class A, class B, bool = kd_is_small<A> || kd_is_small<B>>
struct kd_scalar_arm_ {
  typedef kd_joint_scalar<A, B> type;
};
template <class A, class B>
struct kd_scalar_arm_<A, B, false> {
  typedef kd_plain<decltype(false ? A() : B())> type;
};
template <class A, class B>
struct kd_arm_<A, B, true> : kd_scalar_arm_<A, B> {};
template <class T, int N, class B>
struct kd_arm_<vec<T, N>, B, false> {
  typedef vec<T, N> type;
};
template <class A, class T, int N>
struct kd_arm_<A, vec<T, N>, false> {
  typedef vec<T, N> type;
};
template <class T, int N>
struct kd_arm_<vec<T, N>, vec<T, N>, false> {
  typedef vec<T, N> type;
};
template <class F, class G>
KD_FN constexpr auto kd_pick(bool condition, F yes, G no) {
  typedef typename kd_arm_<kd_plain<decltype(yes())>, kd_plain<decltype(no())>>::type R;
  if (condition) return static_cast<R>(yes());
  return static_cast<R>(no());
}

}  // namespace metal
