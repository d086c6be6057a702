// clang-format off
// How a kernel may start early. A source that includes this calls wait_for_others() in every thread of every
// kernel: devices/cuda tells by its text that it does.
#pragma once

// Brings `bytes` from `from` on into the second-level cache while the kernel waits. Nothing is read: others may
// still write there. By one thread; both are multiples of 16, and the whole range belongs to the array. (Products
// do not gain by it: what the kernel before them reads takes the place.)
static __device__ void bring_near(const void* from, unsigned bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(from)), "r"(bytes) : "memory");
#endif
}

// Until all that was queued before is done; what comes after may be started from then on. In a group of
// operations the blocks of a kernel are there before the kernel before it has ended: what it can do with
// weights alone, it does before this call; what others wrote is read after it, and nothing is written before.
static __device__ void wait_for_others() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\ngriddepcontrol.launch_dependents;" ::: "memory");
#endif
}
