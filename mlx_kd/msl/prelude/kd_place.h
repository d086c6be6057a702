// A thread's place, as the thread attributes give it.
#pragma once

#if KD_CUDA
#include "abi.h"
#endif

namespace metal {

struct kd_Place {
  kd_thread t;

#if KD_CUDA
  // Threads are numbered as in Metal: by the true size of this threadgroup, so that a partial one
  // at the end of the grid has its threads in the first warps. In a group of one dimension that is
  // how CUDA numbers them. KD_WHOLE_LINES promises that all groups are such and none is partial:
  // then the grid is as many groups as were launched, and no thread waits for its size before its
  // first load.
#if defined(KD_WHOLE_LINES)
  KD_DEVICE kd_Place() { in_a_line(gridDim.x * blockDim.x, gridDim.y, gridDim.z); }
#else
  KD_DEVICE kd_Place(int grid_x, int grid_y, int grid_z) {
    if (blockDim.y * blockDim.z == 1u)
      in_a_line(uint(grid_x), uint(grid_y), uint(grid_z));
    else
      in_a_block(grid_x, grid_y, grid_z);
  }
#endif
  KD_DEVICE void in_a_line(uint grid_x, uint grid_y, uint grid_z) {
    t.grid[0] = grid_x, t.grid[1] = grid_y, t.grid[2] = grid_z;
    t.dispatch[0] = blockDim.x, t.dispatch[1] = t.dispatch[2] = 1;
    t.group[0] = blockIdx.x, t.group[1] = blockIdx.y, t.group[2] = blockIdx.z;
    t.groups[0] = gridDim.x, t.groups[1] = gridDim.y, t.groups[2] = gridDim.z;
#if defined(KD_WHOLE_LINES)
    t.threads = t.size[0] = blockDim.x;
#else
    const uint left = grid_x - blockIdx.x * blockDim.x;
    t.threads = t.size[0] = left < blockDim.x ? left : blockDim.x;
#endif
    t.size[1] = t.size[2] = 1;
    t.index = t.local[0] = threadIdx.x;
    t.local[1] = t.local[2] = 0;
    t.position[0] = blockIdx.x * blockDim.x + threadIdx.x;
    t.position[1] = blockIdx.y, t.position[2] = blockIdx.z;
  }
  KD_DEVICE void in_a_block(int grid_x, int grid_y, int grid_z) {
    const uint given[3] = {uint(grid_x), uint(grid_y), uint(grid_z)};
    const uint block[3] = {blockDim.x, blockDim.y, blockDim.z};
    const uint at[3] = {blockIdx.x, blockIdx.y, blockIdx.z};
    const uint count[3] = {gridDim.x, gridDim.y, gridDim.z};
    const uint here[3] = {threadIdx.x, threadIdx.y, threadIdx.z};
    bool whole = true;
    for (int d = 0; d < 3; ++d) {
      const uint left = given[d] - at[d] * block[d];
      t.grid[d] = given[d], t.dispatch[d] = block[d], t.group[d] = at[d], t.groups[d] = count[d];
      t.size[d] = left < block[d] ? left : block[d];
      whole = whole && t.size[d] == block[d];
    }
    t.threads = t.size[0] * t.size[1] * t.size[2];
    t.index = here[0] + block[0] * (here[1] + block[1] * here[2]);
    t.local[0] = whole ? here[0] : t.index % t.size[0];
    t.local[1] = whole ? here[1] : t.index / t.size[0] % t.size[1];
    t.local[2] = whole ? here[2] : t.index / (t.size[0] * t.size[1]);
    for (int d = 0; d < 3; ++d) t.position[d] = at[d] * block[d] + t.local[d];
  }
#if defined(KD_WHOLE_LINES)
  KD_DEVICE static constexpr bool inside() { return true; }
#else
  KD_DEVICE bool inside() const { return t.index < t.threads; }
#endif
#else
  KD_FN explicit kd_Place(const kd_thread& given) : t(given) {}
  // x, y, z: the position in the grid; local_x: in the threadgroup.
  KD_FN kd_Place(const kd_group& g, uint x, uint local_x, uint y, uint z) {
    const uint at[3] = {x, y, z};
    for (int d = 0; d < 3; ++d) {
      t.position[d] = at[d], t.local[d] = at[d] - g.origin[d], t.group[d] = g.group[d];
      t.groups[d] = g.groups[d], t.grid[d] = g.grid[d], t.size[d] = g.size[d];
      t.dispatch[d] = g.dispatch[d];
    }
    t.local[0] = local_x;
    t.index = t.local[0] + t.size[0] * (t.local[1] + t.size[1] * t.local[2]);
    t.threads = t.size[0] * t.size[1] * t.size[2];
  }
#endif

  typedef vec<uint, 3> place3;
  KD_FN static place3 three(const unsigned (&a)[3]) { return place3(a[0], a[1], a[2]); }
  KD_FN place3 thread_position_in_grid() const { return three(t.position); }
  KD_FN place3 thread_position_in_threadgroup() const { return three(t.local); }
  KD_FN place3 threadgroup_position_in_grid() const { return three(t.group); }
  KD_FN place3 threadgroups_per_grid() const { return three(t.groups); }
  KD_FN place3 threads_per_grid() const { return three(t.grid); }
  KD_FN place3 grid_size() const { return three(t.grid); }
  KD_FN place3 grid_origin() const { return place3(0u, 0u, 0u); }
  KD_FN place3 threads_per_threadgroup() const { return three(t.size); }
  KD_FN place3 dispatch_threads_per_threadgroup() const { return three(t.dispatch); }
  KD_FN uint thread_index_in_threadgroup() const { return t.index; }
  KD_FN uint thread_index_in_simdgroup() const { return t.index & 31u; }
  KD_FN uint thread_index_in_quadgroup() const { return t.index & 3u; }
  KD_FN uint simdgroup_index_in_threadgroup() const { return t.index >> 5; }
  KD_FN uint quadgroup_index_in_threadgroup() const { return t.index >> 2; }
  KD_FN uint simdgroups_per_threadgroup() const { return (t.threads + 31u) >> 5; }
  KD_FN uint quadgroups_per_threadgroup() const { return (t.threads + 3u) >> 2; }
  KD_FN uint whole() const { return t.dispatch[0] * t.dispatch[1] * t.dispatch[2]; }
  KD_FN uint dispatch_simdgroups_per_threadgroup() const { return (whole() + 31u) >> 5; }
  KD_FN uint dispatch_quadgroups_per_threadgroup() const { return (whole() + 3u) >> 2; }
  KD_FN uint threads_per_simdgroup() const { return 32u; }
  KD_FN uint thread_execution_width() const { return 32u; }
};

// A pointer to the first element of an array type.
template <class T>
struct kd_elements_ {};
template <class T, unsigned long N>
struct kd_elements_<T[N]> {
  typedef T* type;
};
template <class T>
using kd_elements = typename kd_elements_<T>::type;

// The first components of a place, as the type that the kernel asks for.
template <class T>
KD_FN T kd_as(uint a) {
  return T(a);
}
template <class T>
KD_FN T kd_as(vec<uint, 3> a) {
  if constexpr (kd_width<T> == 1)
    return T(a.x);
  else if constexpr (kd_width<T> == 2)
    return T(a.x, a.y);
  else
    return T(a.x, a.y, a.z);
}

#if KD_CUDA
// A list of numbers that a kernel takes by value.
struct kd_List {
  long at[4];
};
#if !defined(KD_EMULATE_CUDA)
extern "C" __shared__ unsigned char kd_dynamic_bytes[];
#endif
template <class T>
KD_DEVICE T* kd_dynamic(int offset) {
  return reinterpret_cast<T*>(kd_dynamic_bytes + offset);
}
#else
// A bound buffer as whatever the kernel declares.
struct kd_Pointer {
  void* at;
  template <class T>
  KD_FN operator T*() const {
    return static_cast<T*>(at);
  }
};
struct kd_Reference {
  void* at;
  template <class T>
  KD_FN operator T&() const {
    return *static_cast<T*>(at);
  }
};
template <class T>
KD_FN T& kd_shared(unsigned slot) {
  return *static_cast<T*>(kd_bound->shared(slot, sizeof(T), alignof(T)));
}
// Room for one variable of all threads of a group, between two loops over them. No two groups run
// on one system thread at a time.
template <class T, int Number>
inline T* kd_kept() {
  alignas(64) static thread_local unsigned char bytes[1024 * sizeof(T)];
  unsigned char* at = bytes;
  __asm__("" : "+r"(at));  // or compilers ask where it is in every turn of a loop
  return reinterpret_cast<T*>(at);
}
// How wide a group is that fills the innermost dimension of an array of the threadgroup: the
// largest power of 2 in it; of several arrays the widest. 0 if there is none.
template <class T>
inline constexpr unsigned kd_extent = 0;
template <class T, unsigned long N>
inline constexpr unsigned kd_extent<T[N]> = N;
template <class T, unsigned long M, unsigned long N>
inline constexpr unsigned kd_extent<T[M][N]> = N;
KD_FN constexpr unsigned kd_widest(unsigned a, unsigned b) {
  unsigned width = 8;
  while (2 * width <= b) width *= 2;
  if (b < 8 || width > 1024) width = 0;
  return a > width ? a : width;
}
template <class... Arrays>
constexpr unsigned kd_width_of_arrays() {
  unsigned width = 0;
  ((width = kd_widest(width, kd_extent<Arrays>)), ...);
  return width;
}
template <class... Arrays>
inline constexpr unsigned kd_array_width = kd_width_of_arrays<Arrays...>();
template <unsigned N>
struct kd_constant {};
template <unsigned N>
KD_FN constexpr unsigned kd_value_of(kd_constant<N>) {
  return N;
}
template <class T>
KD_FN void kd_keep(T& to, const T& from) {
  to = from;
}
template <class T, int N>
KD_FN void kd_keep(T (&to)[N], const T (&from)[N]) {
  for (int i = 0; i < N; ++i) kd_keep(to[i], from[i]);
}
#endif

}  // namespace metal

#if !KD_CUDA
// Threads of a group are independent of each other here, so the innermost loop may be vectorised.
#define KD_INLINED __attribute__((always_inline))
#if defined(__clang__)
#define KD_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define KD_INDEPENDENT _Pragma("GCC ivdep")
#endif
// What the loops over the threads of a group count. The innermost counts from 0, and positions are
// known not to wrap (the executor sees to that): so addresses that go with it are known to follow
// one another. `width`: a kd_constant, of a group that is so wide, or 0 for any.
#define KD_THREADS(g, width)                                                              \
  const unsigned kd_nx = kd_value_of(width) ? kd_value_of(width) : g->size[0];             \
  const unsigned kd_x0 = g->origin[0];                                                    \
  if (kd_nx > 1024u || kd_x0 > 0xfffff000u) __builtin_unreachable();                       \
  const unsigned kd_y0 = g->origin[1], kd_y1 = kd_y0 + g->size[1];                         \
  const unsigned kd_z0 = g->origin[2], kd_z1 = kd_z0 + g->size[2];                         \
  const kd_group kd_copy = *g
#define KD_FOR_EACH                                                                       \
  for (unsigned kd_z = kd_z0; kd_z < kd_z1; ++kd_z)                                        \
    for (unsigned kd_y = kd_y0; kd_y < kd_y1; ++kd_y)                                      \
      KD_INDEPENDENT for (unsigned kd_x = 0; kd_x < kd_nx; ++kd_x)
// Those of them that may be thread `at`: in x, or by their index, which is the same in a line.
#define KD_FOR_X(at)                                                                      \
  for (unsigned kd_z = kd_z0; kd_z < kd_z1; ++kd_z)                                        \
    for (unsigned kd_y = kd_y0; kd_y < kd_y1; ++kd_y)                                      \
      for (unsigned kd_x = at; kd_x < kd_nx && kd_x <= at; ++kd_x)
#define KD_FOR_INDEX(at)                                                                  \
  const bool kd_line = kd_copy.size[1] * kd_copy.size[2] == 1u;                            \
  for (unsigned kd_z = kd_z0; kd_z < kd_z1; ++kd_z)                                        \
    for (unsigned kd_y = kd_y0; kd_y < kd_y1; ++kd_y)                                      \
      for (unsigned kd_x = kd_line ? at : 0u; kd_x < kd_nx && (!kd_line || kd_x <= at); ++kd_x)
#endif
