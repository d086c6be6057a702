// clang-format off
// Products of 64 x 64 by a group of 128 threads, for mlstm_chunkwise_vjp: slices of both factors pass shared memory as
// floats, 32 of the depth at a time, and are multiplied as tensor.cu.h has it.
#pragma once
constexpr int kTile = 64, kDepth = 32, kAlong = kDepth + 4, kAcross = kTile + 8;

// A factor's slice: rows of kAlong floats if the depth runs along them, else kDepth rows of kAcross.
struct Factor {
  float at[kDepth * kAcross];
};
struct alignas(16) Factors {
  Factor left, right;
};

// What a thread has of a product: a warp has 16 rows.
struct Tile64 {
  Sums at[kTile / 8];
};
// visit(row, column, x)
template <class Visit>
static __device__ void each_of(Tile64& tile, Visit visit) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, first = threadIdx.x / 32 * 16;
#pragma unroll
  for (int j = 0; j < kTile / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) visit(first + g + e / 2 * 8, 8 * j + 2 * t + e % 2, tile.at[j].at[e]);
}

static __device__ float as_float(float x) {
  return x;
}
static __device__ float as_float(unsigned short x) {
  return widen((T)x);
}

template <class E>
static __device__ Four read_four(const Source<E>& s, int row, int column) {
  Four x = {};
  if (row >= s.rows || column >= s.columns) return x;
  const E* const from = s.from + row * s.line + column;
  if (column + 4 <= s.columns && (unsigned long long)from % (4 * sizeof(E)) == 0) return four_of(from);
#pragma unroll
  for (int e = 0; e < 4; ++e)
    if (column + e < s.columns) x.at[e] = as_float(from[e]);
  return x;
}

// The slice from k0 on, rows times scale(row); whether all of it is finite.
template <bool along, class E, class Scale>
static __device__ bool load_factor(Factor& to, const Source<E>& from, int k0, Scale scale) {
  constexpr int kFours = (along ? kDepth : kTile) / 4, kCount = (along ? kTile : kDepth) * kFours;
  bool is_finite = true;
#pragma unroll
  for (int e = threadIdx.x; e < kCount; e += kThreads) {
    const int i = e / kFours, j = e % kFours * 4, row = along ? i : k0 + i;
    const Four x = read_four(from, row, along ? k0 + j : j);
    const float by = scale(row);
    float y[4];
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      y[c] = scaled(by, x.at[c]);
      is_finite = is_finite && fabsf(y[c]) < infinity();
    }
    *(float4*)&to.at[i * (along ? kAlong : kAcross) + j] = make_float4(y[0], y[1], y[2], y[3]);
  }
  return is_finite;
}

template <bool along>
static __device__ float entry_of(const Factor& f, int i, int k) {
  return f.at[along ? i * kAlong + k : k * kAcross + i];
}
template <bool along>
static __device__ Lefts left_of(const Factor& f, int row, int k) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  return lefts_of(entry_of<along>(f, row + g, k + t), entry_of<along>(f, row + g + 8, k + t),
                  entry_of<along>(f, row + g, k + t + 4), entry_of<along>(f, row + g + 8, k + t + 4));
}
template <bool along>
static __device__ Rights right_of(const Factor& f, int column, int k) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  return rights_of(entry_of<along>(f, column + g, k + t), entry_of<along>(f, column + g, k + t + 4));
}

// How a product is taken: along which axis of its arrays the depth runs, and whether their numbers are of TF32.
template <bool left_along, bool right_along, bool left_is_exact, bool right_is_exact>
struct Product {
  // As add(), one by one: a 0 of the left factor keeps out what is not finite.
  static __device__ __noinline__ void add_one_by_one(Tile64& c, const Factors& f) {
#pragma unroll 1
    for (int j = 0; j < kTile / 8; ++j)
#pragma unroll 1
      for (int e = 0; e < 4; ++e) {
        const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + e / 2 * 8, column = 8 * j + 2 * (threadIdx.x % 4) + e % 2;
#pragma unroll 1
        for (int k = 0; k < kDepth; ++k)
          if (const float x = entry_of<left_along>(f.left, row, k); x != 0.0f)
            c.at[j].at[e] += x * entry_of<right_along>(f.right, column, k);
      }
  }

  // c += left times right; rows of the left array times scale(row).
  template <class A, class B, class Scale>
  static __device__ void add(Tile64& c, Factors& f, const Source<A>& left, const Source<B>& right, int depth, Scale scale) {
    const int row = threadIdx.x / 32 * 16;
    for (int k0 = 0; k0 < depth; k0 += kDepth) {
      __syncthreads();  // the slices before were read
      load_factor<left_along>(f.left, left, k0, scale);
      const bool is_finite = load_factor<right_along>(f.right, right, k0, [](int) { return 1.0f; });
      if (!__syncthreads_and(is_finite)) {
        Tile64 sums = c;  // c stays in registers
        add_one_by_one(sums, f);
        c = sums;
        continue;
      }
#pragma unroll 1
      for (int k = 0; k < kDepth; k += 8) {
        const Lefts a = left_of<left_along>(f.left, row, k);
#pragma unroll
        for (int j = 0; j < kTile / 8; ++j)
          multiply<left_is_exact, right_is_exact>(c.at[j], a, right_of<right_along>(f.right, 8 * j, k));
      }
    }
  }
  template <class A, class B>
  static __device__ void add(Tile64& c, Factors& f, const Source<A>& left, const Source<B>& right, int depth) {
    add(c, f, left, right, depth, [](int) { return 1.0f; });
  }
};
