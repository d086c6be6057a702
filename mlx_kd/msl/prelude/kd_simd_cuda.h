// The exchanges of kd_simd.h on warps. Included inside namespace metal.
//
// Every mask is full: threads that have left the kernel do not hold up the others, and a reduction
// asks which lanes are left. Lanes of a warp must reach these functions together.

KD_DEVICE uint kd_lane() {
  return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) & 31u;
}
KD_DEVICE void kd_barrier(int kind, int) {
  if (kind == 0)
    __syncthreads();
  else
    __syncwarp(0xffffffffu);
}

// One exchange for each 32-bit word of a value.
template <class T>
struct kd_words {
  static constexpr int n = (int(sizeof(T)) + 3) / 4;
  uint w[n];
};
template <class T>
KD_DEVICE T kd_move(T v, int from) {
  kd_words<T> words = {};
  KD_COPY(&words, &v, sizeof(T));
  for (int i = 0; i < kd_words<T>::n; ++i)
    words.w[i] = __shfl_sync(0xffffffffu, words.w[i], from);
  T r;
  KD_COPY(&r, &words, sizeof(T));
  return r;
}
struct kd_votes {
  uint votes, active;
};
KD_DEVICE kd_votes kd_ballot(bool v) {
  return {__ballot_sync(0xffffffffu, v), __ballot_sync(0xffffffffu, true)};
}
template <class T, int W>
KD_DEVICE T kd_shuffle(T v, int from) {
  const int lane = int(kd_lane());
  const bool there = from >= 0 && from < W;
  return kd_move(v, there ? (lane & ~(W - 1)) + from : lane);
}
template <class T, class Op, int W>
KD_DEVICE T kd_reduce(T v) {
  const uint active = __ballot_sync(0xffffffffu, true);
  const int lane = int(kd_lane());
  for (int d = W / 2; d > 0; d /= 2) {
    const T other = kd_move(v, lane ^ d);
    if (active >> (lane ^ d) & 1u) v = Op::template join<T>(v, other);
  }
  return active == 0xffffffffu ? v : kd_move(v, lane & ~(W - 1));
}
template <class T, class Op, bool Exclusive, int W>
KD_DEVICE T kd_scan(T v) {
  const int lane = int(kd_lane()) & (W - 1);
  for (int d = 1; d < W; d *= 2) {
    const T other = kd_shuffle<T, W>(v, lane - d);
    if (lane >= d) v = Op::template join<T>(other, v);
  }
  if (!Exclusive) return v;
  const T before = kd_shuffle<T, W>(v, lane - 1);
  return lane ? before : Op::template none<T>();
}
template <class T, int W>
KD_DEVICE T kd_first(T v) {
  return kd_move(v, int(kd_lane()) & ~(W - 1));
}
