// Type traits. Those of numbers hold for vectors of them too.
#pragma once

namespace metal {

template <class T, T v>
struct integral_constant {
  static constexpr T value = v;
  typedef T value_type;
  typedef integral_constant type;
  KD_FN constexpr operator T() const { return v; }
  KD_FN constexpr T operator()() const { return v; }
};
template <bool B>
using bool_constant = integral_constant<bool, B>;
typedef bool_constant<true> true_type;
typedef bool_constant<false> false_type;
template <class T, T... Values>
struct integer_sequence {
  typedef T value_type;
  static KD_FN constexpr kd_size size() { return sizeof...(Values); }
};
template <class T, kd_size N, T... Values>
struct kd_counted_ : kd_counted_<T, N - 1, T(N - 1), Values...> {};
template <class T, T... Values>
struct kd_counted_<T, 0, Values...> {
  typedef integer_sequence<T, Values...> type;
};
template <class T, T N>
using make_integer_sequence = typename kd_counted_<T, kd_size(N)>::type;
template <kd_size... Values>
using index_sequence = integer_sequence<kd_size, Values...>;
template <kd_size N>
using make_index_sequence = make_integer_sequence<kd_size, N>;
template <class... T>
using index_sequence_for = make_index_sequence<sizeof...(T)>;
template <bool B, class T = void>
using enable_if_t = kd_if<B, T>;
template <bool B, class T = void>
struct enable_if : kd_if_<B, T> {};
template <bool B, class T, class F>
using conditional_t = kd_either<B, T, F>;
template <bool B, class T, class F>
struct conditional : kd_either_<B, T, F> {};

// Types of types. Addresses have no space here, so none is removed.
#define KD_TYPE_OF(name, Pattern)    \
  template <class T>                 \
  struct name {                      \
    typedef T type;                  \
  };                                 \
  template <class T>                 \
  struct name<Pattern> {             \
    typedef T type;                  \
  };
#define KD_TYPE_ALIAS(name)          \
  template <class T>                 \
  using name##_t = typename name<T>::type;
KD_TYPE_OF(remove_const, const T) KD_TYPE_OF(remove_volatile, volatile T)
KD_TYPE_OF(remove_pointer, T*) KD_TYPE_OF(remove_extent, T[])
template <class T, unsigned long N>
struct remove_extent<T[N]> {
  typedef T type;
};
KD_TYPE_OF(remove_reference, T&)
template <class T>
struct remove_reference<T&&> {
  typedef T type;
};
template <class T>
struct remove_cv {
  typedef typename remove_const<typename remove_volatile<T>::type>::type type;
};
template <class T>
struct remove_addrspace {
  typedef T type;
};
template <class T>
struct decay {
  typedef kd_plain<T> type;
};
template <class T>
struct add_const {
  typedef const T type;
};
template <class T>
struct add_pointer {
  typedef typename remove_reference<T>::type* type;
};
template <class T>
struct add_lvalue_reference {
  typedef T& type;
};
template <class T>
struct make_unsigned {
  typedef kd_unsigned<T> type;
};
template <class T, int N>
struct make_unsigned<vec<T, N>> {
  typedef vec<kd_unsigned<T>, N> type;
};
template <class A>
using kd_signed =
    kd_either<sizeof(A) == 1, char, kd_either<sizeof(A) == 2, short, kd_either<sizeof(A) == 4, int, long>>>;
template <class T>
struct make_signed {
  typedef kd_signed<T> type;
};
template <class T, int N>
struct make_signed<vec<T, N>> {
  typedef vec<kd_signed<T>, N> type;
};
template <class T>
struct underlying_type {
  typedef __underlying_type(T) type;
};
// The component of a vector; the scalar itself of a scalar.
template <class T>
struct make_scalar {
  typedef T type;
};
template <class T, int N>
struct make_scalar<vec<T, N>> {
  typedef T type;
};
KD_TYPE_ALIAS(remove_const) KD_TYPE_ALIAS(remove_volatile) KD_TYPE_ALIAS(remove_pointer)
KD_TYPE_ALIAS(remove_extent) KD_TYPE_ALIAS(remove_reference) KD_TYPE_ALIAS(remove_cv)
KD_TYPE_ALIAS(decay) KD_TYPE_ALIAS(remove_addrspace) KD_TYPE_ALIAS(add_const) KD_TYPE_ALIAS(add_pointer)
KD_TYPE_ALIAS(add_lvalue_reference) KD_TYPE_ALIAS(make_unsigned) KD_TYPE_ALIAS(make_signed)
KD_TYPE_ALIAS(underlying_type) KD_TYPE_ALIAS(make_scalar)
#undef KD_TYPE_OF
#undef KD_TYPE_ALIAS
template <class T>
struct vec_elements : integral_constant<int, kd_width<T>> {};
template <class T>
inline constexpr int vec_elements_v = kd_width<T>;
template <class T>
KD_FN T&& declval();

// Questions about one type.
template <class T>
inline constexpr bool kd_is_const = false;
template <class T>
inline constexpr bool kd_is_const<const T> = true;
template <class T>
inline constexpr bool kd_is_volatile = false;
template <class T>
inline constexpr bool kd_is_volatile<volatile T> = true;
template <class T>
inline constexpr bool kd_is_pointer = false;
template <class T>
inline constexpr bool kd_is_pointer<T*> = true;
template <class T>
inline constexpr int kd_reference_kind = 0;
template <class T>
inline constexpr int kd_reference_kind<T&> = 1;
template <class T>
inline constexpr int kd_reference_kind<T&&> = 2;
template <class T>
inline constexpr bool kd_is_array = false;
template <class T>
inline constexpr bool kd_is_array<T[]> = true;
template <class T, unsigned long N>
inline constexpr bool kd_is_array<T[N]> = true;
template <class T>
using kd_component_of = typename make_scalar<typename remove_cv<T>::type>::type;
#define KD_QUESTION(name, answer)                       \
  template <class T>                                    \
  inline constexpr bool name##_v = answer;              \
  template <class T>                                    \
  struct name : bool_constant<name##_v<T>> {};
KD_QUESTION(is_integral, kd_is_integer<kd_component_of<T>>)
KD_QUESTION(is_floating_point, kd_is_float<kd_component_of<T>>)
KD_QUESTION(is_arithmetic, kd_is_scalar<kd_component_of<T>>)
KD_QUESTION(is_scalar, (kd_is_scalar<typename remove_cv<T>::type> || kd_is_pointer<typename remove_cv<T>::type>))
KD_QUESTION(is_vector, kd_is_vec<typename remove_cv<T>::type>)
KD_QUESTION(is_void, (kd_same<typename remove_cv<T>::type, void>))
KD_QUESTION(is_const, kd_is_const<T>)
KD_QUESTION(is_volatile, kd_is_volatile<T>)
KD_QUESTION(is_pointer, kd_is_pointer<typename remove_cv<T>::type>)
KD_QUESTION(is_array, kd_is_array<T>)
KD_QUESTION(is_reference, kd_reference_kind<T> != 0)
KD_QUESTION(is_lvalue_reference, kd_reference_kind<T> == 1)
KD_QUESTION(is_rvalue_reference, kd_reference_kind<T> == 2)
KD_QUESTION(is_class, __is_class(T))
KD_QUESTION(is_union, __is_union(T))
KD_QUESTION(is_enum, __is_enum(T))
KD_QUESTION(is_trivially_copyable, __is_trivially_copyable(T))
#undef KD_QUESTION
template <class T>
KD_FN constexpr bool kd_answer_signed() {
  typedef kd_component_of<T> C;
  if constexpr (kd_is_float<C>) return true;
  if constexpr (kd_is_integer<C>) return kd_is_signed<C>;
  return false;
}
template <class T>
inline constexpr bool is_signed_v = kd_answer_signed<T>();
template <class T>
inline constexpr bool is_unsigned_v = is_integral_v<T> && !is_signed_v<T>;
template <class T>
struct is_signed : bool_constant<is_signed_v<T>> {};
template <class T>
struct is_unsigned : bool_constant<is_unsigned_v<T>> {};

// About two.
template <class A, class B>
inline constexpr bool is_same_v = kd_same<A, B>;
template <class A, class B>
struct is_same : bool_constant<kd_same<A, B>> {};
template <class From, class To>
inline constexpr bool is_convertible_v = kd_converts<From, To>;
template <class From, class To>
struct is_convertible : bool_constant<kd_converts<From, To>> {};
template <class A, class B>
inline constexpr bool is_base_of_v = __is_base_of(A, B);
template <class A, class B>
struct is_base_of : bool_constant<__is_base_of(A, B)> {};
template <class... B>
struct conjunction : bool_constant<(bool(B::value) && ...)> {};
template <class... B>
struct disjunction : bool_constant<(bool(B::value) || ...)> {};
template <class B>
struct negation : bool_constant<!bool(B::value)> {};
template <class... B>
using _conjunction = conjunction<B...>;
template <class... B>
using _disjunction = disjunction<B...>;
template <class B>
using _negation = negation<B>;
template <class... B>
inline constexpr bool conjunction_v = conjunction<B...>::value;
template <class... B>
inline constexpr bool disjunction_v = disjunction<B...>::value;
template <class B>
inline constexpr bool negation_v = !bool(B::value);

template <class T>
struct __is_valid_simdgroup_type : bool_constant<kd_is_scalar<make_scalar_t<T>> && sizeof(make_scalar_t<T>) <= 4> {};

// The same value in all threads of a group, which is said and not checked.
template <class T>
using uniform = T;
template <class T>
KD_FN constexpr T make_uniform(T a) {
  return a;
}

// <metal_array>
template <class T, unsigned long N>
struct array {
  T kd_items[N == 0 ? 1 : N];
  KD_FN constexpr T& operator[](size_t i) { return kd_items[i]; }
  KD_FN constexpr const T& operator[](size_t i) const { return kd_items[i]; }
  KD_FN constexpr size_t size() const { return N; }
  KD_FN constexpr bool empty() const { return N == 0; }
  KD_FN constexpr T* data() { return kd_items; }
  KD_FN constexpr const T* data() const { return kd_items; }
  KD_FN constexpr T* begin() { return kd_items; }
  KD_FN constexpr T* end() { return kd_items + N; }
  KD_FN constexpr const T* begin() const { return kd_items; }
  KD_FN constexpr const T* end() const { return kd_items + N; }
  KD_FN constexpr void fill(const T& value) {
    for (size_t i = 0; i < N; ++i) kd_items[i] = value;
  }
};

}  // namespace metal
