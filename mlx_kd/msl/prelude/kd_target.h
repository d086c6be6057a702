// The two targets, apart only here and in the files that end in _cpp and _cuda.
#pragma once

#if defined(KD_EMULATE_CUDA)
#include "kd_cuda_emulation.h"
#endif

#if defined(__CUDACC__) || defined(__CUDACC_RTC__) || defined(KD_EMULATE_CUDA)
#define KD_CUDA 1
#define KD_FN __host__ __device__ __forceinline__
#define KD_DEVICE __device__ __forceinline__
#else
#define KD_CUDA 0
#define KD_FN inline __attribute__((always_inline))
#define KD_DEVICE KD_FN
#if defined(__OPTIMIZE__)
#define KD_KERNEL static inline __attribute__((always_inline))
#else
#define KD_KERNEL static
#endif
#include "abi.h"
extern "C" const kd_runtime* kd_bound;
const kd_runtime* kd_bound;
#if defined(KD_CHECK)
#include "kd_check.h"
#endif
#endif

#if defined(KD_EMULATE_CUDA) || !KD_CUDA
#define KD_COPY __builtin_memcpy
#define KD_BITS(To, value) __builtin_bit_cast(To, value)
#define KD_F(name) __builtin_##name
#else
#define KD_COPY ::memcpy
#define KD_BITS(To, value) __builtin_bit_cast(To, value)
#define KD_F(name) ::name
#endif

typedef signed char kd_int8;
typedef unsigned char kd_uint8;
typedef unsigned long kd_size;

#if !KD_CUDA
// What a compiler makes of {a, b, c}: it looks for the class by this name. Metal's gives pointers to
// elements that are not const.
namespace std {
template <class T>
class initializer_list {
 public:
  typedef T value_type;
  typedef T* iterator;
  constexpr initializer_list() : first_(nullptr), count_(0) {}
  constexpr kd_size size() const { return count_; }
  constexpr T* begin() const { return const_cast<T*>(first_); }
  constexpr T* end() const { return begin() + count_; }

 private:
  constexpr initializer_list(const T* first, kd_size count) : first_(first), count_(count) {}
  const T* first_;
  kd_size count_;
};
}  // namespace std
#endif

namespace metal {

#if !KD_CUDA
using std::initializer_list;
#endif

// The few traits that the names need; no header of the system is read.
template <class A, class B>
inline constexpr bool kd_same = false;
template <class A>
inline constexpr bool kd_same<A, A> = true;
template <bool B, class T = int>
struct kd_if_ {};
template <class T>
struct kd_if_<true, T> {
  typedef T type;
};
template <bool B, class T = int>
using kd_if = typename kd_if_<B, T>::type;
template <bool B, class T, class F>
struct kd_either_ {
  typedef T type;
};
template <class T, class F>
struct kd_either_<false, T, F> {
  typedef F type;
};
template <bool B, class T, class F>
using kd_either = typename kd_either_<B, T, F>::type;
template <class T>
struct kd_plain_ {
  typedef T type;
};
template <class T>
struct kd_plain_<T&> : kd_plain_<T> {};
template <class T>
struct kd_plain_<T&&> : kd_plain_<T> {};
template <class T>
struct kd_plain_<const T> : kd_plain_<T> {};
template <class T>
struct kd_plain_<volatile T> : kd_plain_<T> {};
template <class T>
using kd_plain = typename kd_plain_<T>::type;
template <class T>
struct kd_given_ {
  typedef T type;
};
template <class T>
using kd_given = typename kd_given_<T>::type;  // not deduced

template <class T>
KD_FN T kd_some();
template <class T>
KD_FN void kd_take(T);
template <class From, class To, class = void>
inline constexpr bool kd_converts = false;
template <class From, class To>
inline constexpr bool kd_converts<From, To, decltype(kd_take<To>(kd_some<From>()))> = true;

}  // namespace metal
