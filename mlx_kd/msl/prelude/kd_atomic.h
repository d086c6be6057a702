// atomic<T> and its functions, as the host's compiler or CUDA gives them.
#pragma once

namespace metal {

enum memory_order {
  memory_order_relaxed,
  memory_order_acquire,
  memory_order_release,
  memory_order_acq_rel,
  memory_order_seq_cst
};
enum thread_scope {
  thread_scope_thread,
  thread_scope_simdgroup,
  thread_scope_threadgroup,
  thread_scope_device
};
enum class mem_flags : int {
  mem_none = 0,
  mem_device = 1,
  mem_threadgroup = 2,
  mem_texture = 4,
  mem_threadgroup_imageblock = 8
};
KD_FN constexpr mem_flags operator|(mem_flags a, mem_flags b) {
  return mem_flags(int(a) | int(b));
}

template <class T>
inline constexpr bool kd_is_atomic =
    kd_same<T, int> || kd_same<T, uint> || kd_same<T, float> || kd_same<T, bool> || kd_same<T, ulong>;

// Neither copied nor assigned: its functions alone touch it.
template <class T>
struct atomic {
  static_assert(kd_is_atomic<T>, "Metal has atomics of int, uint, bool, float and ulong alone");
  T kd_value;
  atomic() = default;
  atomic(const atomic&) = delete;
  atomic& operator=(const atomic&) = delete;
};
template <class T>
using _atomic = atomic<T>;
typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;
typedef atomic<float> atomic_float;
typedef atomic<bool> atomic_bool;
typedef atomic<ulong> atomic_ulong;

template <class T>
KD_FN T* kd_cell(const volatile atomic<T>* a) {
  return const_cast<T*>(&a->kd_value);
}
template <class T>
using kd_bits_of = kd_either<sizeof(T) == 8, ulong, kd_either<sizeof(T) == 4, uint, uchar>>;

#if KD_CUDA && !defined(KD_EMULATE_CUDA)
template <class T>
KD_DEVICE T kd_load(T* p) {
  return *const_cast<volatile T*>(p);
}
template <class T>
KD_DEVICE void kd_store(T* p, T v) {
  *const_cast<volatile T*>(p) = v;
}
template <class T>
KD_DEVICE T kd_swap(T* p, T v) {
  return atomicExch(p, v);
}
KD_DEVICE ulong kd_swap(ulong* p, ulong v) {
  return atomicExch(reinterpret_cast<unsigned long long*>(p), static_cast<unsigned long long>(v));
}
template <class T>
KD_DEVICE bool kd_replace(T* p, T& expected, T wanted) {
  if constexpr (sizeof(T) == 8) {
    typedef unsigned long long L;
    const T old = T(atomicCAS(reinterpret_cast<L*>(p), L(expected), L(wanted)));
    const bool done = old == expected;
    expected = old;
    return done;
  } else {
    const uint before = KD_BITS(uint, expected);
    const uint old = atomicCAS(reinterpret_cast<uint*>(p), before, KD_BITS(uint, wanted));
    expected = KD_BITS(T, old);
    return old == before;
  }
}
#else
template <class T>
KD_FN T kd_load(T* p) {
  const kd_bits_of<T> bits =
      __atomic_load_n(reinterpret_cast<kd_bits_of<T>*>(p), __ATOMIC_SEQ_CST);
  return KD_BITS(T, bits);
}
template <class T>
KD_FN void kd_store(T* p, T v) {
  __atomic_store_n(reinterpret_cast<kd_bits_of<T>*>(p), KD_BITS(kd_bits_of<T>, v), __ATOMIC_SEQ_CST);
}
template <class T>
KD_FN T kd_swap(T* p, T v) {
  const kd_bits_of<T> bits = __atomic_exchange_n(reinterpret_cast<kd_bits_of<T>*>(p),
                                                 KD_BITS(kd_bits_of<T>, v), __ATOMIC_SEQ_CST);
  return KD_BITS(T, bits);
}
template <class T>
KD_FN bool kd_replace(T* p, T& expected, T wanted) {
  kd_bits_of<T> bits = KD_BITS(kd_bits_of<T>, expected);
  const bool done = __atomic_compare_exchange_n(reinterpret_cast<kd_bits_of<T>*>(p), &bits,
                                                KD_BITS(kd_bits_of<T>, wanted), false,
                                                __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  expected = KD_BITS(T, bits);
  return done;
}
#endif

// Repeats until no other thread was in between; hardware that adds natively is used where it does.
template <class T, class F>
KD_DEVICE T kd_update(T* p, F f) {
  T old = kd_load(p);
  while (!kd_replace(p, old, f(old))) {
  }
  return old;
}

template <class T>
KD_DEVICE T atomic_load_explicit(const volatile atomic<T>* a, memory_order) {
  return kd_load(kd_cell(a));
}
template <class T>
KD_DEVICE void atomic_store_explicit(volatile atomic<T>* a, kd_given<T> v, memory_order) {
  kd_store(kd_cell(a), v);
}
template <class T>
KD_DEVICE T atomic_exchange_explicit(volatile atomic<T>* a, kd_given<T> v, memory_order) {
  return kd_swap(kd_cell(a), v);
}
template <class T>
KD_DEVICE bool atomic_compare_exchange_weak_explicit(volatile atomic<T>* a, T* expected,
                                                     kd_given<T> wanted, memory_order, memory_order) {
  return kd_replace(kd_cell(a), *expected, wanted);
}
#if KD_CUDA && !defined(KD_EMULATE_CUDA)
#define KD_FETCH(name, native, condition, expression)                                       \
  template <class T, kd_if<condition> = 0>                                                  \
  KD_DEVICE T atomic_fetch_##name##_explicit(volatile atomic<T>* a, kd_given<T> b, memory_order) { \
    if constexpr (sizeof(T) == 4 && !(kd_same<T, float> && native##_float)) return native(kd_cell(a), b); \
    return kd_update(kd_cell(a), [b](T old) { return T(expression); });                     \
  }
#define atomicAdd_float false
#define atomicSub_float true
#define atomicMin_float true
#define atomicMax_float true
#define atomicAnd_float false
#define atomicOr_float false
#define atomicXor_float false
#else
#define KD_FETCH(name, native, condition, expression)                                       \
  template <class T, kd_if<condition> = 0>                                                  \
  KD_DEVICE T atomic_fetch_##name##_explicit(volatile atomic<T>* a, kd_given<T> b, memory_order) { \
    return kd_update(kd_cell(a), [b](T old) { return T(expression); });                     \
  }
#endif
KD_FETCH(add, atomicAdd, (!kd_same<T, bool>), old + b)
KD_FETCH(sub, atomicSub, (!kd_same<T, bool>), old - b)
KD_FETCH(min, atomicMin, (kd_is_integer<T> && !kd_same<T, bool>), b < old ? b : old)
KD_FETCH(max, atomicMax, (kd_is_integer<T> && !kd_same<T, bool>), old < b ? b : old)
KD_FETCH(and, atomicAnd, kd_is_integer<T>, old & b)
KD_FETCH(or, atomicOr, kd_is_integer<T>, old | b)
KD_FETCH(xor, atomicXor, kd_is_integer<T>, old ^ b)
#undef KD_FETCH
template <class T, kd_if<kd_same<T, ulong>> = 0>
KD_DEVICE void atomic_max_explicit(volatile atomic<T>* a, kd_given<T> b, memory_order o) {
  atomic_fetch_max_explicit(a, b, o);
}
template <class T, kd_if<kd_same<T, ulong>> = 0>
KD_DEVICE void atomic_min_explicit(volatile atomic<T>* a, kd_given<T> b, memory_order o) {
  atomic_fetch_min_explicit(a, b, o);
}
KD_DEVICE void atomic_thread_fence(mem_flags, memory_order, thread_scope = thread_scope_device) {
#if KD_CUDA && !defined(KD_EMULATE_CUDA)
  __threadfence();
#else
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

}  // namespace metal
