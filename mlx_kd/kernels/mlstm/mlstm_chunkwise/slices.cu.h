// clang-format off
// Rows of arrays into shared memory, asynchronously in pieces of 16 bytes where they lie so, else one by one.
#pragma once

// `line` elements from row to row; `rows` x `columns` of them are there, the others are 0.
template <class E>
struct Source {
  const E* from;
  long line;
  int rows, columns;
};

template <class E>
static __device__ bool lies_in_pieces(const E* from, long line) {
  return line * (long)sizeof(E) % 16 == 0 && (unsigned long long)from % 16 == 0;
}

// kRead x kWide elements, in rows of kLine, by kThreads threads.
template <int kThreads, int kRead, int kWide, int kLine, class E>
static __device__ void request(E* to, const Source<E>& source) {
  constexpr int kPiece = 16 / sizeof(E), kAcross = kWide / kPiece;
  if (!lies_in_pieces(source.from, source.line)) {
    for (int e = threadIdx.x; e < kRead * kWide; e += kThreads) {
      const int i = e / kWide, j = e % kWide;
      to[i * kLine + j] = i < source.rows && j < source.columns ? source.from[i * source.line + j] : E(0);
    }
    return;
  }
#pragma unroll
  for (int e = threadIdx.x; e < kRead * kAcross; e += kThreads) {
    const int i = e / kAcross, j = e % kAcross * kPiece, left = min(source.columns - j, kPiece);
    const bool is_there = i < source.rows && left > 0;
    const E* const from = is_there ? source.from + i * source.line + j : source.from;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"((unsigned)__cvta_generic_to_shared(to + i * kLine + j)), "l"(from), "r"(is_there ? left * (int)sizeof(E) : 0));
  }
}

// One float, 0 unless it is there.
static __device__ void request_one(float* to, const float* from, bool is_there) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from), "r"(is_there ? 4 : 0));
}

static __device__ void close_requests() {
  asm volatile("cp.async.commit_group;");
}
// Until all groups but the last `kOpen` of this thread are there.
template <int kOpen>
static __device__ void wait_for_requests() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kOpen));
}
