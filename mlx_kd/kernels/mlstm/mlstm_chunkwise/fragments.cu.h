// clang-format off
// Products of 16 x 16 by 16 x 8 on tensor cores in bfloat16 with float sums, from tiles in shared memory whose rows are
// 8 numbers longer than what they hold, so that the 8 rows of a fragment lie in different banks. A float is split in two
// numbers of bfloat16, so that 17 bits of it count. Row g = lane / 4 and column t = lane % 4 of a lane.
#pragma once
constexpr int kTokens = 128, kWarps = 8, kGroup = 32 * kWarps;  // of a chunk; of a group
constexpr int kLong = 128, kLongLine = kLong + 8;               // rows of queries and keys

// Of a left factor, 16 x 16: (g, 2 t), (g + 8, 2 t), (g, 2 t + 8), (g + 8, 2 t + 8) and their neighbours. Of a right one,
// 16 x 16 as two of 16 x 8: (2 t, g), (2 t + 8, g), (2 t, g + 8), (2 t + 8, g + 8) and the rows below.
struct Fragment {
  unsigned at[4];
};
struct Halves {
  Fragment high, low;
};

static __device__ Fragment load_fragment(const T* at) {
  Fragment f;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(f.at[0]), "=r"(f.at[1]), "=r"(f.at[2]), "=r"(f.at[3]) : "r"((unsigned)__cvta_generic_to_shared(at)));
  return f;
}
static __device__ Fragment load_across(const T* at) {
  Fragment f;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(f.at[0]), "=r"(f.at[1]), "=r"(f.at[2]), "=r"(f.at[3]) : "r"((unsigned)__cvta_generic_to_shared(at)));
  return f;
}
static __device__ void multiply16(Sums& c, const Fragment& a, unsigned b, unsigned b8) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c.at[0]), "+f"(c.at[1]), "+f"(c.at[2]), "+f"(c.at[3])
      : "r"(a.at[0]), "r"(a.at[1]), "r"(a.at[2]), "r"(a.at[3]), "r"(b), "r"(b8));
}
// `first` in the lower half.
static __device__ unsigned pack16(float first, float second) {
  unsigned both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  return both;
}

// Two neighbouring products of 16 x 8.
static __device__ void multiply_two(Sums* c, const Fragment& a, const Fragment& b) {
  multiply16(c[0], a, b.at[0], b.at[1]);
  multiply16(c[1], a, b.at[2], b.at[3]);
}

static __device__ float lower_of(unsigned both) {
  return __uint_as_float(both << 16);
}
static __device__ float upper_of(unsigned both) {
  return __uint_as_float(both & 0xffff0000u);
}
static __device__ float lost_of(float x, float high) {
  return fabsf(high) < infinity() ? x - high : 0.0f;
}
struct Words {
  unsigned high, low;
};
static __device__ Words split(float first, float second) {
  const unsigned high = pack16(first, second);
  return {high, pack16(lost_of(first, lower_of(high)), lost_of(second, upper_of(high)))};
}
// Two neighbouring sums as a left factor, if they are finite; else what comes of it is not.
static __device__ Halves halves_of(const Sums& first, const Sums& second) {
  Halves h;
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const Sums& from = e < 2 ? first : second;
    const float x = from.at[e % 2 * 2], y = from.at[e % 2 * 2 + 1];
    h.high.at[e] = pack16(x, y);
    h.low.at[e] = pack16(x - lower_of(h.high.at[e]), y - upper_of(h.high.at[e]));
  }
  return h;
}

// Where a lane's rows begin: of a left factor, or of a right one whose rows are those of the depth; and the other way.
template <int kLine>
static __device__ const T* deep_rows(const T* tile, int row, int column) {
  return tile + (row + threadIdx.x % 16) * kLine + column + threadIdx.x % 32 / 16 * 8;
}
template <int kLine>
static __device__ const T* flat_rows(const T* tile, int row, int column) {
  return tile + (row + threadIdx.x % 32 / 16 * 8 + threadIdx.x % 8) * kLine + column + threadIdx.x / 8 % 2 * 8;
}

// c[0 .. 2 kPairs) += a times rows [row, row + 16) of a tile, the depth.
template <int kPairs, int kLine>
static __device__ void add_rows(Sums* c, const Fragment& a, const T* tile, int row) {
#pragma unroll
  for (int j = 0; j < kPairs; ++j) multiply_two(c + 2 * j, a, load_across(deep_rows<kLine>(tile, row, 16 * j)));
}
// The same with a in two parts: what is loaded serves both.
template <int kPairs, int kLine>
static __device__ void add_rows(Sums* c, const Halves& a, const T* tile, int row) {
#pragma unroll
  for (int j = 0; j < kPairs; ++j) {
    const Fragment b = load_across(deep_rows<kLine>(tile, row, 16 * j));
    multiply_two(c + 2 * j, a.low, b);
    multiply_two(c + 2 * j, a.high, b);
  }
}
// Where a value without weight is not finite: weights go to shared memory, in rows of kLine, to multiply by one by one.
template <int kLine>
static __device__ void put_weights(float* to, int row, int column, const Sums& first, const Sums& second) {
  float* const at = to + (row + threadIdx.x % 32 / 4) * kLine + column + 2 * (threadIdx.x % 4);
#pragma unroll
  for (int e = 0; e < 4; ++e) at[e / 2 * 8 * kLine + e % 2] = first.at[e], at[e / 2 * 8 * kLine + 8 + e % 2] = second.at[e];
}
struct Sixteen {
  Sums at[16];
};
// c += the weights of a warp's rows times `columns` columns of rows [0, count) of an array, but for those without weight.
static __device__ __noinline__ void add_one_by_one(Sixteen& c, const float* weights, int weight_line, int count, const T* from, long line, int columns) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  __syncwarp();
#pragma unroll 1
  for (int at = 0; at < 64; ++at) {
    const float* const own = weights + (g + at / 2 % 2 * 8) * weight_line;
    const int column = at / 4 * 8 + 2 * t + at % 2;
    float sum = 0.0f;
    for (int s = 0; s < count && column < columns; ++s)
      if (own[s] != 0.0f) sum += own[s] * widen(from[s * line + column]);
    c.at[at / 4].at[at % 4] += sum;
  }
  __syncwarp();
}

// exp(x) for x <= 0 or so, in few instructions.
static __device__ float fast_exp(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(1.44269504f * x));
  return y;
}

// Of a row of tokens.
struct RowGate {
  float x, x_rest, past, floor;
  int first;
};
static __device__ RowGate row_gate(const Gate& gate) {
  return {gate.x, gate.x_rest, gate.past, gate.floor, gate.first};
}

static __device__ void request_piece(T* to, const T* from, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from), "r"(bytes));
}
static __device__ __noinline__ void copy_elements(T* to, int rows, int wide, int line, const T* from, long from_line, int left_rows, int columns) {
  for (int e = threadIdx.x; e < rows * wide; e += kGroup)
    to[e / wide * line + e % wide] = e / wide < left_rows && e % wide < columns ? from[e / wide * from_line + e % wide] : (T)0;
}
// As request() of slices.cu.h, by kGroup threads: a thread has one column of pieces.
template <int kRead, int kWide, int kLine>
static __device__ void request16(T* to, const Source<T>& source) {
  constexpr int kAcross = kWide / 8, kStep = kGroup / kAcross;
  if (!lies_in_pieces(source.from, source.line)) {
    copy_elements(to, kRead, kWide, kLine, source.from, source.line, source.rows, source.columns);
    return;
  }
  const int i = threadIdx.x / kAcross, j = threadIdx.x % kAcross * 8, bytes = 2 * max(min(source.columns - j, 8), 0);
  const T* from = source.from + i * source.line + j;
  to += i * kLine + j;
#pragma unroll
  for (int e = 0; e < kRead; e += kStep) {
    request_piece(to + e * kLine, from, i + e < source.rows ? bytes : 0);
    from += kStep * source.line;
  }
}

static __device__ bool are_finite(const Sums* c, int count) {
  float sum = 0.0f;
#pragma unroll
  for (int j = 0; j < count; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) sum += 0.0f * c[j].at[e];
  return sum == 0.0f;
}

// The memory before a chunk, or its cotangent behind it, in two parts: two planes whose rows are a multiple of 16 bytes.
static __device__ int pitch_of(const Sizes& z) {
  return (z.DHHV + 7) / 8 * 8;
}
static __device__ T* planes_of(const kd_arguments& a, const Sizes& z, long head, int chunk) {
  return (T*)a.scratch[1] + (head * z.chunks + chunk) * 2 * z.DHQK * pitch_of(z);
}

// 16 rows of kWide numbers of a warp, times by[row / 8], from a tile's own rows to an array; `rows`, `columns` of them are there.
template <int kWide, int kLine>
static __device__ void store_rows16(T* tile, const Sums* c, const float (&by)[2], T* to, long line, int rows, int columns) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int j = 0; j < kWide / 8; ++j)
#pragma unroll
    for (int e = 0; e < 2; ++e) *(unsigned*)&tile[(g + 8 * e) * kLine + 8 * j + 2 * t] = pack16(c[j].at[2 * e] * by[e], c[j].at[2 * e + 1] * by[e]);
  __syncwarp();
  constexpr int kAcross = kWide / 8;
  const bool in_pieces = lies_in_pieces(to, line);
#pragma unroll 1
  for (int at = lane; at < 16 * kAcross; at += 32) {
    const int row = at / kAcross, column = at % kAcross * 8;
    if (row >= rows || column >= columns) continue;
    const T* const from = tile + row * kLine + column;
    if (in_pieces && column + 8 <= columns)
      *(uint4*)(to + row * line + column) = *(const uint4*)from;
    else
#pragma unroll 1
      for (int e = 0; e < 8 && column + e < columns; ++e) to[row * line + column + e] = from[e];
  }
  __syncwarp();
}
