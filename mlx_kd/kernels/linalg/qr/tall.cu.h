// clang-format off
// A tall matrix of at most 32 columns: blocks of its rows are factored as held.cu.h has it, then the triangles of all
// blocks, one below the other, are a tall matrix again, until there is one block. Its Q times those of the blocks
// before it is theirs.
//
// Scratch 0 has the triangles of all levels but the first, 1 their Q, 2 the first column that is not finite of each block
// of A.
#pragma once
constexpr int kMostHeld = 64;  // rows of a column in a thread

// Level 0 is A. first(b): where block b begins.
struct Level {
  long rows, blocks, above;  // above: rows of the levels between A and this one
  __device__ long first(long block) const { return block * rows / blocks; }
};
KD_INLINE Level level_of(const Sizes& size, int height, int level) {
  Level at = {size.m, (size.m + height - 1) / height, 0};
  for (int i = 0; i < level; ++i) {
    if (i > 0) at.above += at.rows;
    at.rows = at.blocks * size.n;
    at.blocks = (at.rows + height - 1) / height;
  }
  return at;
}
// Rows of all levels but the first of a matrix.
KD_INLINE long rows_of_levels(const Sizes& size, int height) {
  int level = 1;
  while (level_of(size, height, level).blocks > 1) ++level;
  const Level last = level_of(size, height, level);
  return last.above + last.rows;
}

struct Tall {
  Sizes size;
  int level, height;
  Level at;
  long which, block, scratch;  // scratch: the matrix's first row there
};
KD_INLINE Tall tall_of(const kd_arguments& a, int height, int level) {
  Tall t = {sizes_of(a), level, height, {}, 0, 0, 0};
  t.at = level_of(t.size, height, level);
  t.which = blockIdx.x / t.at.blocks, t.block = blockIdx.x % t.at.blocks;
  t.scratch = t.which * rows_of_levels(t.size, height);
  return t;
}
KD_INLINE float* q_of(const kd_arguments& a, const Tall& t, const Level& at, int level) {
  if (level == 0) return (float*)a.outputs[0] + t.which * t.size.m * t.size.n;
  return (float*)a.scratch[1] + (t.scratch + at.above) * t.size.n;
}
KD_INLINE bool is_spoilt(const kd_arguments& a, const Tall& t, int& first) {
  const long blocks = level_of(t.size, t.height, 0).blocks;
  first = t.size.n;
  for (long block = 0; block < blocks; ++block) first = min(first, ((const int*)a.scratch[2])[t.which * blocks + block]);
  return first < t.size.n;
}

// stage: the level, with kLast for the last; a group takes a block.
constexpr int kLast = 1 << 8;
KD_INLINE void factor_tall(const kd_arguments& a, float* vectors) {
  const int height = blockDim.x * kMostHeld, level = (int)a.stage % kLast;
  const Tall t = tall_of(a, height, level);
  const bool is_last = a.stage >= kLast;
  const long first = t.at.first(t.block);
  Sizes size = t.size;
  size.m = (int)(t.at.first(t.block + 1) - first);
  const float* const stack = (const float*)a.scratch[0] + (t.scratch + t.at.above + first) * size.n;
  const Level next = level_of(t.size, height, level + 1);
  const Held at = {level == 0 ? (const float*)a.inputs[0] + (t.which * t.size.m + first) * size.n : stack,
                   size.mode == kOnlyR ? nullptr : q_of(a, t, t.at, level) + first * size.n,
                   is_last ? (float*)a.outputs[1] + t.which * size.n * size.n
                           : (float*)a.scratch[0] + (t.scratch + next.above + t.block * size.n) * size.n};
  int spoilt = size.n;
  const bool failed = is_last && is_spoilt(a, t, spoilt);
  const int found = factor_matrix<kMostHeld>(at, size, vectors, failed);
  if (threadIdx.x != 0 || threadIdx.y != 0) return;
  if (level == 0) ((int*)a.scratch[2])[t.which * t.at.blocks + t.block] = found;
  if (is_last) ((int*)a.outputs[2])[t.which] = failed ? spoilt + 1 : 0;
}

// The rows of a block of Q times the block's part of the next level's. stage: the level, and kLast times the rows of a
// block over kMostHeld.
KD_INLINE void join_tall(const kd_arguments& a) {
  __shared__ float by[32][33];
  const int level = (int)a.stage % kLast, height = (int)a.stage / kLast * kMostHeld;
  const Tall t = tall_of(a, height, level);
  const int n = t.size.n;
  const Level next = level_of(t.size, height, level + 1);
  const float* const part = q_of(a, t, next, level + 1) + t.block * n * n;
  for (int e = threadIdx.x; e < 32 * 32; e += blockDim.x)
    by[e / 32][e % 32] = e / 32 < n && e % 32 < n ? part[e / 32 * n + e % 32] : 0.0f;
  int spoilt;
  const bool failed = level == 0 && is_spoilt(a, t, spoilt);
  __syncthreads();
  float* const q = q_of(a, t, t.at, level);
  for (long row = t.at.first(t.block) + threadIdx.x; row < t.at.first(t.block + 1); row += blockDim.x) {
    float x[32];
#pragma unroll
    for (int k = 0; k < 32; ++k) x[k] = k < n ? q[row * n + k] : 0.0f;
    for (int j = 0; j < n; ++j) {
      float sum = 0.0f;
#pragma unroll
      for (int k = 0; k < 32; ++k) sum += x[k] * by[k][j];
      q[row * n + j] = failed ? not_a_number() : sum;
    }
  }
}

extern "C" __global__ void __launch_bounds__(256, 2) mlx_kd_qr_tall(const __grid_constant__ kd_arguments a) {
  factor_tall(a, (float*)shared);
}
extern "C" __global__ void __launch_bounds__(256) mlx_kd_qr_join(const __grid_constant__ kd_arguments a) {
  join_tall(a);
}
