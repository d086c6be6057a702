// What a compiled kernel and the executor tell each other: C types, known to both sides.
#pragma once

extern "C" {

// One thread's place. Sizes are those of this threadgroup, which at the end of a grid may be
// smaller than `dispatch`, the size that was asked for.
struct kd_thread {
  unsigned position[3];   // in the grid
  unsigned local[3];      // in its threadgroup
  unsigned group[3];      // of its threadgroup in the grid of threadgroups
  unsigned groups[3];     // threadgroups in the grid
  unsigned grid[3];       // threads in the grid
  unsigned size[3];       // threads of this threadgroup
  unsigned dispatch[3];   // threads of a whole threadgroup
  unsigned index;         // in the threadgroup
  unsigned threads;       // of this threadgroup
};

struct kd_group {
  unsigned origin[3];  // the first thread's position in the grid
  unsigned group[3];
  unsigned groups[3];
  unsigned grid[3];
  unsigned size[3];
  unsigned dispatch[3];
};

// Computes what the lanes in `active` (a mask of 32) get from what they gave.
typedef void (*kd_combine)(unsigned active, const void* const* in, void* const* out);

// How a barrier, a simd function and threadgroup memory reach the executor. Called on fibers only.
struct kd_runtime {
  // kind 0: threadgroup, 1: simdgroup. flags as mem_flags.
  void (*barrier)(int site, int kind, int flags);
  // Waits for the other lanes of the simdgroup at this site, then has one of them combine.
  // width: 32, or 4 for quad functions.
  void (*meet)(int site, int width, const void* in, void* out, kd_combine combine);
  // Memory of the threadgroup; the same place for all its threads.
  void* (*shared)(unsigned slot, unsigned long bytes, unsigned long alignment);
  unsigned (*lane)();
  const struct kd_thread* (*self)();
  // Only in kernels built for checking. kind 0: read, 1: write, 2: atomic read, 3: atomic write.
  void (*touch)(const void* address, unsigned long bytes, int kind, const void* code);
};
}
