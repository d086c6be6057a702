// clang-format off
// The kernels of a form: below codes.cu.h (QUANTISED 1) or elements.cu.h, and the header of the form.
#pragma once
#if QUANTISED
#include "../../common/alone.cu.h"

// A format of its own, or any (0 bits).
template <int kBits, int kGroup, int kMode>
static __device__ void compute(const kd_arguments& a) {
  extern __shared__ uint4 memory[];
  const Run run = Form::run(a);
  if (Form::skips(a, run)) return;
  const Inputs in = Form::inputs(a);
  float* sums;
  int chunks;
  if constexpr (kBits == 0) chunks = add_any<Form>(a, in, run, (char*)memory, sums);
  else chunks = add_products<Format<kBits, kGroup, kMode>, Form>(a, in, run, (char*)memory, sums);
  Form::put(a, run, sums, chunks, in.rows);
}

#define KD_KERNEL(name, bits, group, mode)                                                                \
  KD_WHERE_WANTED(name, extern "C" __global__ void __launch_bounds__(kThreads)                            \
                            name(const __grid_constant__ kd_arguments a) { compute<bits, group, mode>(a); })
// `name` takes any format, the others the one in their names.
#define KD_KERNELS(name)                     \
  KD_KERNEL(name, 0, 0, 0)                   \
  KD_KERNEL(name##_4_32, 4, 32, kAffine)     \
  KD_KERNEL(name##_4_64, 4, 64, kAffine)     \
  KD_KERNEL(name##_4_128, 4, 128, kAffine)   \
  KD_KERNEL(name##_8_32, 8, 32, kAffine)     \
  KD_KERNEL(name##_8_64, 8, 64, kAffine)     \
  KD_KERNEL(name##_8_128, 8, 128, kAffine)   \
  KD_KERNEL(name##_mxfp4, 4, 32, kMxfp4)     \
  KD_KERNEL(name##_nvfp4, 4, 16, kNvfp4)
#else
static __device__ void compute(const kd_arguments& a) {
  extern __shared__ uint4 memory[];
  const Run run = Form::run(a);
  if (Form::skips(a, run)) return;
  const Inputs in = Form::inputs(a);
  float* sums;
  const int chunks = add_products<Form>(a, in, run, (char*)memory, sums);
  Form::put(a, run, sums, chunks, in.rows);
}

#define KD_KERNELS(name)                                                                             \
  extern "C" __global__ void __launch_bounds__(kThreads) name(const __grid_constant__ kd_arguments a) { \
    compute(a);                                                                                      \
  }
#endif
