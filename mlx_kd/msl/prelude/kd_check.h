// Kernels built for checking are instrumented as for ThreadSanitizer; its calls come here and go on
// to the executor. One system thread runs such a kernel, so atomics need no atomic instructions.
#pragma once

#define KD_UNSEEN extern "C" __attribute__((visibility("hidden"), no_sanitize("thread"), noinline, used))
#define KD_TOUCH(address, bytes, kind) \
  kd_bound->touch(const_cast<const void*>(static_cast<const volatile void*>(address)), bytes, kind, __builtin_return_address(0))

KD_UNSEEN void __tsan_init() {}
KD_UNSEEN void __tsan_func_entry(void*) {}
KD_UNSEEN void __tsan_func_exit() {}
#define KD_ACCESS(n)                                                              \
  KD_UNSEEN void __tsan_read##n(void* p) { KD_TOUCH(p, n, 0); }                    \
  KD_UNSEEN void __tsan_write##n(void* p) { KD_TOUCH(p, n, 1); }                   \
  KD_UNSEEN void __tsan_unaligned_read##n(void* p) { KD_TOUCH(p, n, 0); }          \
  KD_UNSEEN void __tsan_unaligned_write##n(void* p) { KD_TOUCH(p, n, 1); }         \
  KD_UNSEEN void __tsan_volatile_read##n(void* p) { KD_TOUCH(p, n, 0); }           \
  KD_UNSEEN void __tsan_volatile_write##n(void* p) { KD_TOUCH(p, n, 1); }
KD_ACCESS(1) KD_ACCESS(2) KD_ACCESS(4) KD_ACCESS(8) KD_ACCESS(16)
#undef KD_ACCESS
KD_UNSEEN void __tsan_read_range(void* p, unsigned long n) { KD_TOUCH(p, n, 0); }
KD_UNSEEN void __tsan_write_range(void* p, unsigned long n) { KD_TOUCH(p, n, 1); }
KD_UNSEEN void* __tsan_memcpy(void* to, const void* from, unsigned long n) {
  KD_TOUCH(from, n, 0);
  KD_TOUCH(to, n, 1);
  return __builtin_memcpy(to, from, n);
}
KD_UNSEEN void* __tsan_memset(void* to, int value, unsigned long n) {
  KD_TOUCH(to, n, 1);
  return __builtin_memset(to, value, n);
}
#define KD_ATOMIC(bits, T)                                                                   \
  KD_UNSEEN T __tsan_atomic##bits##_load(const volatile T* p, int) {                          \
    KD_TOUCH(p, sizeof(T), 2);                                                                \
    return *p;                                                                                \
  }                                                                                           \
  KD_UNSEEN void __tsan_atomic##bits##_store(volatile T* p, T v, int) {                       \
    KD_TOUCH(p, sizeof(T), 3);                                                                \
    *p = v;                                                                                   \
  }                                                                                           \
  KD_UNSEEN T __tsan_atomic##bits##_exchange(volatile T* p, T v, int) {                       \
    KD_TOUCH(p, sizeof(T), 3);                                                                \
    const T old = *p;                                                                         \
    *p = v;                                                                                   \
    return old;                                                                               \
  }                                                                                           \
  KD_UNSEEN int __tsan_atomic##bits##_compare_exchange_strong(volatile T* p, T* e, T v, int,  \
                                                              int) {                          \
    KD_TOUCH(p, sizeof(T), 3);                                                                \
    const T old = *p;                                                                         \
    const bool same = old == *e;                                                              \
    if (same) *p = v;                                                                         \
    *e = old;                                                                                 \
    return same;                                                                              \
  }                                                                                           \
  KD_UNSEEN int __tsan_atomic##bits##_compare_exchange_weak(volatile T* p, T* e, T v, int a,  \
                                                            int b) {                          \
    return __tsan_atomic##bits##_compare_exchange_strong(p, e, v, a, b);                      \
  }                                                                                           \
  KD_UNSEEN T __tsan_atomic##bits##_compare_exchange_val(volatile T* p, T e, T v, int, int) { \
    KD_TOUCH(p, sizeof(T), 3);                                                                \
    const T old = *p;                                                                         \
    if (old == e) *p = v;                                                                     \
    return old;                                                                               \
  }
KD_ATOMIC(8, unsigned char)
KD_ATOMIC(32, unsigned)
KD_ATOMIC(64, unsigned long)
#undef KD_ATOMIC
KD_UNSEEN void __tsan_atomic_thread_fence(int) {}
