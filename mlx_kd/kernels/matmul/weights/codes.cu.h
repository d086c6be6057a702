// clang-format off
// Products of x with quantised rows of W, as MLX stores them.
//
// Formats of 4 and 8 bits, and x of 16 bits: tensor cores multiply 16 rows of codes with x. A code becomes
// a number of 16 bits by its place alone: 4 bits as the top of the mantissa of 16 + code, 8 bits as two
// such halves, 4 bits of mxfp4 and nvfp4 as exponent and mantissa. The product needs one column of B; all
// eight are used to keep the groups of a row apart, so that each is scaled once. x is permuted to the order
// in which a word's codes come out: (0, 4), (1, 5), (2, 6), (3, 7) of 4 bits, (0, 2), (1, 3) of 8.
#pragma once
#include "../../common/mma.cu.h"
#include "any.cu.h"

// x of 16 bits in the order of the codes, and sums of its groups, in shared memory.
struct Prepared {
  unsigned x;         // XROWS rows of `row_bytes`; an address of shared memory
  unsigned zeros;     // 128 bytes
  const float* sums;  // XROWS rows of `sums_row`
  int row_bytes, sums_row;
};

template <int kBits_, int kGroup_, int kMode_>
struct Format {
  static constexpr int kBits = kBits_, kGroup = kGroup_, kMode = kMode_;
  static constexpr int kEach = 128 / kBits;                    // codes of a load
  static constexpr int kStep = 4 * kEach;                      // columns of four lanes
  static constexpr int kChunk = UNROLL * kStep;
  static constexpr int kMostSteps = 8 * kGroup / kStep;        // steps whose groups fill the columns of B
  static constexpr int kSteps = kMostSteps < UNROLL ? kMostSteps : UNROLL;  // of a set
  static constexpr int kSets = UNROLL / kSteps;
  static constexpr int kSetGroups = kSteps * kStep / kGroup;
  static constexpr int kHalves = kEach > kGroup ? 2 : 1;       // groups of a load
  static constexpr bool kIsAffine = kMode == kAffine;
};

template <class F>
struct Chunk {
  uint4 codes[UNROLL][2];
  unsigned scales[F::kSets][2], biases[F::kSets][2];  // two of them each
};

// Two numbers from `at` on, as bits; 0 for those at `end` and later, which is even where kPairs.
template <bool kPairs, class Number>
static __device__ unsigned two_of(const Number* from, int at, int end) {
  if (at >= end) return 0;
  if constexpr (!kPairs) return from[at];
  else if constexpr (sizeof(Number) == 2) return __ldg((const unsigned*)(from + at));
  else return __ldg((const unsigned short*)(from + at));
}

// Columns after K are read as those of the first step: x is 0 there.
template <class F>
static __device__ void load(Chunk<F>& chunk, const Tile& tile, int K, int index) {
  const int lane = threadIdx.x % 32, quad = lane % 4, groups = K / F::kGroup;
  const int first = index * F::kChunk + quad * F::kEach;
  int offset[UNROLL];
#pragma unroll
  for (int u = 0; u < UNROLL; ++u) offset[u] = first + u * F::kStep < K ? 64 * u : 0;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const long row = min(tile.row + lane / 4 + 8 * h, tile.rows - 1);
    const char* const from = (const char*)tile.codes + (row * K + min(first, K - F::kEach)) * F::kBits / 8;
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) chunk.codes[u][h] = load_weights(from + offset[u]);
#pragma unroll
    for (int s = 0; s < F::kSets; ++s) {
      constexpr bool kPairs = F::kSetGroups > 1;
      const int begin = (index * F::kSets + s) * F::kSetGroups;
      const int at = begin + 2 * quad, end = min(begin + F::kSetGroups, groups);
      if constexpr (F::kIsAffine) {
        chunk.scales[s][h] = two_of<kPairs>((const unsigned short*)tile.scales + row * groups, at, end);
        chunk.biases[s][h] = two_of<kPairs>((const unsigned short*)tile.biases + row * groups, at, end);
      } else {
        chunk.scales[s][h] = two_of<kPairs>((const unsigned char*)tile.scales + row * groups, at, end);
      }
    }
  }
}

// One of two scales.
template <int kMode>
static __device__ float scale_of(unsigned two, int which) {
  if constexpr (kMode == kAffine) return widen((T)(two >> 16 * which));
  const unsigned code = two >> 8 * which & 255;
  return kMode == kNvfp4 ? float8(code) : power_of_two(code);
}

#if KD_DTYPE != 0

#if KD_DTYPE == 1
constexpr int kNibble = 6, kSmall = 9;  // where the lowest bit of a code is put
constexpr unsigned kNibbleMask = 0x03c003c0, kSixteen = 0x4c004c00, kSmallMask = 0x0e000e00, kLift = 0x74007400;
#define KD_MULTIPLY "mul.f16x2"
#else
constexpr int kNibble = 3, kSmall = 6;
constexpr unsigned kNibbleMask = 0x00780078, kSixteen = 0x41804180, kSmallMask = 0x01c001c0, kLift = 0x7e807e80;
#define KD_MULTIPLY "mul.bf16x2"
#endif

template <int kBy>
static __device__ unsigned shifted(unsigned x) {
  if constexpr (kBy >= 0) return x << kBy;
  else return x >> -kBy;
}

// (x & mask) | more, which the compiler would make two instructions of.
static __device__ unsigned masked(unsigned x, unsigned mask, unsigned more) {
  unsigned result;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(result) : "r"(x), "r"(mask), "r"(more));
  return result;
}

// 16 + code, of the codes at bits 4 kAt of both halves.
template <int kAt>
static __device__ unsigned nibbles(unsigned word) {
  return masked(shifted<kNibble - 4 * kAt>(word), kNibbleMask, kSixteen);
}

// Numbers of 4 bits: sign, two bits of exponent, one of mantissa.
template <int kAt>
static __device__ unsigned small_floats(unsigned word) {
  const unsigned bits = masked(shifted<12 - 4 * kAt>(word), 0x80008000u, shifted<kSmall - 4 * kAt>(word) & kSmallMask);
  unsigned result;
  asm(KD_MULTIPLY " %0, %1, %2;" : "=r"(result) : "r"(bits), "r"(kLift));
  return result;
}

template <class F, int kAt>
static __device__ unsigned numbers(unsigned word) {
  if constexpr (F::kIsAffine) return nibbles<kAt>(word);
  else return small_floats<kAt>(word);
}

static __device__ unsigned word_of(const uint4& codes, int i) {
  return i == 0 ? codes.x : i == 1 ? codes.y : i == 2 ? codes.z : codes.w;
}

// Where a lane reads x of a step: two addresses, for even and odd packs, so that no bank is read twice.
struct Source {
  unsigned even, odd;
};

template <class F>
static __device__ Source source_of(const Prepared& x, int step, int half, int set_step, int m) {
  const int lane = threadIdx.x % 32, quad = lane % 4;
  const int column = (set_step * F::kStep + quad * F::kEach + half * F::kGroup) / F::kGroup;
  const bool own = lane / 4 == column;
  if constexpr (F::kBits == 4) {
    const unsigned swap = quad / 2 * 16, from = x.x + m * x.row_bytes + step * 256 + quad * 64;
    return {own ? from + swap : x.zeros + 32, own ? from + (16 - swap) : x.zeros + 48};
  } else {
    const unsigned from = x.x + m * x.row_bytes + step * 128 + quad * 32;
    return {own ? from : x.zeros + 16, own ? from + 16 : x.zeros};
  }
}

template <int kOffset>
static __device__ uint4 shared_pack(unsigned from) {
  uint4 pack;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4 + %5];"
      : "=r"(pack.x), "=r"(pack.y), "=r"(pack.z), "=r"(pack.w)
      : "r"(from), "n"(kOffset));
  return pack;
}

template <class F, int i>
static __device__ void multiply_word(const uint4 (&codes)[2], const Source& from, float (&low)[4], float (&high)[4]) {
  const unsigned a = word_of(codes[0], i), b = word_of(codes[1], i);
  if constexpr (F::kBits == 4) {
    const uint4 x = shared_pack<i / 2 * 32>(i % 2 ? from.odd : from.even);
    multiply_add(low, numbers<F, 0>(a), numbers<F, 0>(b), numbers<F, 1>(a), numbers<F, 1>(b), x.x, x.y);
    multiply_add(low, numbers<F, 2>(a), numbers<F, 2>(b), numbers<F, 3>(a), numbers<F, 3>(b), x.z, x.w);
  } else {
    const uint4 x = shared_pack<0>(i / 2 ? from.odd : from.even);
    const unsigned first = i % 2 ? x.z : x.x, second = i % 2 ? x.w : x.y;
    multiply_add(low, nibbles<0>(a), nibbles<0>(b), nibbles<2>(a), nibbles<2>(b), first, second);
    multiply_add(high, nibbles<1>(a), nibbles<1>(b), nibbles<3>(a), nibbles<3>(b), first, second);
  }
}

// One load of two rows times x; `low` of 4 bits, `high` too of 8.
template <class F>
static __device__ void multiply_step(const uint4 (&codes)[2], const Prepared& x, int step, int set_step, int m,
                                     float (&low)[4], float (&high)[4]) {
  const Source first = source_of<F>(x, step, 0, set_step, m);
  const Source second = F::kHalves == 2 ? source_of<F>(x, step, 1, set_step, m) : first;
  multiply_word<F, 0>(codes, first, low, high);
  multiply_word<F, 1>(codes, first, low, high);
  multiply_word<F, 2>(codes, second, low, high);
  multiply_word<F, 3>(codes, second, low, high);
}

template <class F>
static __device__ void multiply(const Chunk<F>& chunk, const Prepared& x, int index, float (&sums)[2][XROWS]) {
  const int quad = threadIdx.x % 4;
#pragma unroll
  for (int s = 0; s < F::kSets; ++s) {
    float low[XROWS][4] = {}, high[XROWS][4] = {};
#pragma unroll
    for (int j = 0; j < F::kSteps; ++j) {
      const int u = s * F::kSteps + j;
#pragma unroll
      for (int m = 0; m < XROWS; ++m)
        multiply_step<F>(chunk.codes[u], x, index * UNROLL + u, j, m, low[m], high[m]);
    }
    const int group = (index * F::kSets + s) * F::kSetGroups + 2 * quad;
#pragma unroll
    for (int m = 0; m < XROWS; ++m) {
      float2 of_x = make_float2(0.0f, 0.0f);
      if constexpr (F::kIsAffine && F::kSetGroups == 1) {
        if (quad == 0) of_x.x = x.sums[m * x.sums_row + group];
      } else if (F::kIsAffine && 2 * quad < F::kSetGroups) {
        of_x = *(const float2*)(x.sums + m * x.sums_row + group);
      }
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const float scale = scale_of<F::kMode>(chunk.scales[s][h], i), sum = i ? of_x.y : of_x.x;
          float product = low[m][2 * h + i];
          if constexpr (F::kBits == 8) product += 16.0f * high[m][2 * h + i] - 272.0f * sum;
          else if constexpr (F::kIsAffine) product -= 16.0f * sum;
          sums[h][m] += scale * product;
          if constexpr (F::kIsAffine) sums[h][m] += widen((T)(chunk.biases[s][h] >> 16 * i)) * sum;
        }
    }
  }
}

// A pack of eight elements in the order of the codes.
template <class F>
static __device__ uint4 permuted(const Pack& pack) {
  Pack result;
#pragma unroll
  for (int v = 0; v < 8; ++v)
    result.at[v] = F::kBits == 4 ? pack.at[v / 2 + v % 2 * 4] : pack.at[v / 4 * 4 + v % 4 / 2 + v % 2 * 2];
  return result.bits;
}

// x with its norm into shared memory, by all threads: XROWS rows of `packs` packs, zeros after K.
template <class F>
static __device__ void prepare(const Inputs& in, char* x, float* sums, int packs, int sums_row) {
  float scales[XROWS];
  norm_scales(in, scales);
  constexpr int kSumLanes = F::kGroup / 8;
#pragma unroll
  for (int m = 0; m < XROWS; ++m)
    for (int from = 0; from < packs; from += kThreads) {
      const int i = from + threadIdx.x;
      const bool there = i * 8 < in.K && m < in.rows;
      Pack pack;
      pack.bits = there ? ((const uint4*)(in.x + (long)m * in.K))[i] : make_uint4(0, 0, 0, 0);
      float sum = 0.0f;
      if (there && in.weight != nullptr) {
        Pack weight;
        weight.bits = __ldg((const uint4*)in.weight + i);
#pragma unroll
        for (int v = 0; v < 8; ++v) pack.at[v] = narrow(normed(widen(pack.at[v]), scales[m], widen(weight.at[v])));
      }
#pragma unroll
      for (int v = 0; v < 8; ++v) sum += widen(pack.at[v]);
      const int place = F::kBits == 4 ? i ^ (i >> 3 & 1) : i;
      if (i < packs) ((uint4*)x)[m * packs + place] = permuted<F>(pack);
      if constexpr (F::kIsAffine) {
#pragma unroll
        for (int other = kSumLanes / 2; other > 0; other /= 2) sum += __shfl_xor_sync(kAll, sum, other);
        if (i < packs && i % kSumLanes == 0) sums[m * sums_row + i / kSumLanes] = sum;
      }
    }
}

// The sums of the tiles of the run; `Form::tile` says which they are. Returns how many chunks each has.
template <class F, class Form>
static __device__ int add_products(const kd_arguments& a, const Inputs& in, const Run& run, char* shared, float*& results) {
  const int chunks = (in.K + F::kChunk - 1) / F::kChunk, packs = chunks * (F::kChunk / 8);
  const int sums_row = (chunks * F::kChunk / F::kGroup + 1) / 2 * 2;
  float* const sums = (float*)(shared + 128 + XROWS * packs * 16);
  results = sums + XROWS * sums_row;
  const int lane = threadIdx.x % 32;
  Chunk<F> chunk[2];
  Item here = item_of(threadIdx.x / 32, chunks);
  // The first weights are on their way while x is prepared.
  if (here.tile < run.count) load(chunk[0], Form::tile(a, run, here.tile), in.K, here.chunk);
  if (threadIdx.x < 8) ((uint4*)shared)[threadIdx.x] = make_uint4(0, 0, 0, 0);
  prepare<F>(in, shared + 128, sums, packs, sums_row);
  __syncthreads();
  const unsigned zeros = (unsigned)__cvta_generic_to_shared(shared);
  const Prepared x = {zeros + 128, zeros, sums, packs * 16, sums_row};
  while (here.tile < run.count)
#pragma unroll
    for (int turn = 0; turn < 2; ++turn) {
      if (here.tile >= run.count) break;
      const Item next = next_of(here, chunks);
      if (next.tile < run.count) load(chunk[1 - turn], Form::tile(a, run, next.tile), in.K, next.chunk);
      float made[2][XROWS] = {};
      multiply(chunk[turn], x, here.chunk, made);
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int m = 0; m < XROWS; ++m) {
          made[h][m] += __shfl_xor_sync(kAll, made[h][m], 1);
          made[h][m] += __shfl_xor_sync(kAll, made[h][m], 2);
          if (lane % 4 == 0)
            results[((here.tile * chunks + here.chunk) * kRows + lane / 4 + 8 * h) * XROWS + m] = made[h][m];
        }
      here = next;
    }
  __syncthreads();
  return chunks;
}
#endif

#if KD_DTYPE == 0
template <class F, class Form>
static __device__ int add_products(const kd_arguments& a, const Inputs& in, const Run& run, char* shared, float*& results) {
  return add_any<Form>(a, in, run, shared, results);
}
#endif
