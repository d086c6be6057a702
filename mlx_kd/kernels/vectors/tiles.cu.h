// clang-format off
// How a scan reads base and multiplies it with its queries, on tensor cores (sm_90a).
//
// A float is the sum of two bfloat16 and a rest, 2^-16 of it: high and low. A product of a query and a row is high
// high + high low + low high, in float32. Queries are split once and stay in shared memory; rows are split on their
// way from shared memory to registers, where their norms are taken too.
//
// One warp of a block requests tiles of 64 rows and 128 columns by bulk copies, several tiles ahead (map 0: base, in
// boxes of 32 columns); two warpgroups, each with a ring of tiles of its own, multiply them with the block's kQueries
// queries. Where the rows of base are not whole multiples of 16 bytes, that warp copies them itself.
//
// Rows and columns may be multiplied in any order, as long as rows and queries have the same. Of 16 columns, a
// thread has columns 4 t to 4 t + 3 (t = lane % 4) in the places 2 t, 2 t + 1, 2 t + 8 and 2 t + 9: 16 bytes
// of a row. Of the 8 rows of a warp's load, those of even lanes / 4 come first, so that the rows of each phase of the
// load differ in the third bit, which swizzling makes different banks of.
//
// Dynamic shared memory: queries; the rings of tiles; candidates of both groups; slack and limit of each query; barriers.
#pragma once
#include "../common/kd_tensor_maps.h"
#include "../common/warpgroups.cu.h"
#include "flat.cu.h"

constexpr int kTileRows = 64, kColumns = 128, kBoxColumns = 32, kBoxBytes = 4 * kTileRows * kBoxColumns;
constexpr int kTileBytes = kColumns / kBoxColumns * kBoxBytes;
constexpr int kScanThreads = 288, kSteps = kColumns / 16;
constexpr unsigned kGathered = 512;  // candidates of a group

// Where a column of a row is in a tile.
static __device__ unsigned place_in_tile(int row, int column) {
  return column / kBoxColumns * kBoxBytes + row * 128 + ((column % kBoxColumns / 4) ^ (row % 8)) * 16 + column % 4 * 4;
}

static __device__ int chunks_of(int width) {
  return (width + kColumns - 1) / kColumns;
}
// Bytes of the 128 columns of so many queries: (64 columns, high or low, query, 64 swizzled numbers).
static __device__ constexpr int bytes_of_chunk(int queries) {
  return queries * 512;
}

static __device__ void split_pair(float a, float b, unsigned& high, unsigned& low) {
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(high) : "f"(b), "f"(a));
  const float rest_a = a - __uint_as_float(high << 16), rest_b = b - __uint_as_float(high & 0xffff0000u);
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(low) : "f"(rest_b), "f"(rest_a));
}

// What a product is off by at most, over |q| |x|: the terms that are left out, and the roundings of sums.
static __device__ float share_of_products(int width) {
  return 4 * 0x1p-16f + float(3 * chunks_of(width) * kSteps + 8) * 0x1p-20f;
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// d (+)= a b^T of 64 rows of a, in registers, and 64 or 8 of b; as Product of warpgroups.cu.h.
static __device__ void add_product(float (&d)[32], const unsigned (&a)[4], unsigned long long b, int keeps) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"
      " %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "{%32, %33, %34, %35}, %36, p, 1, 1, 0;\n}\n"
      : KD_SUMS16(d, 0), KD_SUMS16(d, 16)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keeps));
}
static __device__ void add_product(float (&d)[4], const unsigned (&a)[4], unsigned long long b, int keeps) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %9, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0, %1, %2, %3}, {%4, %5, %6, %7}, %8, p, 1, 1, 0;\n}\n"
      : KD_SUMS4(d, 0)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keeps));
}

// A scan of samples, for limits; or of all tiles, with limits that were stored, or that it finds in samples.
enum { kSampled, kStored, kFound };
constexpr int kSamplesOfLane = 16;  // of a limit that is found

// How the tiles of base are taken, and where they lie.
struct Scan {
  Search flat;
  long count;  // of queries
  int ring, limits, samples, chunks;  // limits: where they come from; samples: how many tiles these are
  unsigned capacity, queries_at, tiles_at, gathered_at, limits_at, full_at;
  long tiles;

  __device__ Scan(const kd_arguments& a, int queries, unsigned memory)
      : flat(search_of(a)),
        count(a.dims[KD_DIM_M]),
        ring((int)(a.stage & 15)),
        limits((int)(a.stage >> 4 & 3)),
        samples((int)(a.stage >> 6 & 0x3ffffff)),
        chunks(chunks_of(flat.width)),
        capacity((unsigned)(a.stage >> 32)),
        queries_at(memory),
        tiles_at(queries_at + chunks * bytes_of_chunk(queries)),
        gathered_at(tiles_at + 2 * ring * kTileBytes),
        limits_at(gathered_at + 2 * kGathered * 16),
        full_at(limits_at + queries * 8),
        tiles((flat.rows + kTileRows - 1) / kTileRows) {}
  __device__ unsigned tile(int stage) const { return tiles_at + stage * kTileBytes; }
  __device__ unsigned full(int stage) const { return full_at + 8 * stage; }
  __device__ unsigned empty(int stage) const { return full_at + 8 * (2 * ring + stage); }
  __device__ unsigned counts_at() const { return full_at + 32 * ring; }  // of the gathered candidates
  __device__ long turns() const { return limits == kSampled ? samples : tiles; }
  __device__ long tile_of(long turn) const { return limits == kSampled ? turn * tiles / samples : turn; }
  __device__ bool takes_every_row() const { return capacity >= flat.rows; }
};

// A place in the ring of a group.
struct Step {
  int group, ring, at = 0, parity = 0;

  __device__ Step(int group, int ring) : group(group), ring(ring) {}
  __device__ int stage() const { return group * ring + at; }
  __device__ void next() {
    if (++at == ring) at = 0, parity ^= 1;
  }
};

static __device__ void copy_rows(const Scan& scan, long first, int chunk, int columns, unsigned to) {
  const int rows = (int)min((long)kTileRows, scan.flat.rows - first);
  for (int r = 0; r < rows; r += 4) {
#pragma unroll
    for (int i = 0; i < 4 * kColumns / 32; ++i) {
      const int row = r + i / (kColumns / 32), column = i % (kColumns / 32) * 32 + threadIdx.x % 32;
      if (row < rows && column < columns) {
        const float x = scan.flat.row(first + row)[chunk * kColumns + column];
        asm volatile("st.shared.f32 [%0], %1;" ::"r"(to + place_in_tile(row, column)), "f"(x) : "memory");
      }
    }
  }
}

static __device__ void request_boxes(const kd_tensor_maps& maps, long first, int chunk, int columns, unsigned to,
                                     unsigned full) {
  const int boxes = (columns + kBoxColumns - 1) / kBoxColumns;
  barrier_expect(full, boxes * kBoxBytes);
  for (int i = 0; i < boxes; ++i)
    load_tile(to + i * kBoxBytes, &maps.of[0], chunk * kColumns + i * kBoxColumns, (int)first, full);
}

static __device__ void request_chunk(const kd_tensor_maps& maps, const Scan& scan, long first, int chunk, Step& step) {
  const int columns = min(kColumns, scan.flat.width - chunk * kColumns), lane = threadIdx.x % 32;
  const unsigned to = scan.tile(step.stage()), full = scan.full(step.stage());
  barrier_wait(scan.empty(step.stage()), step.parity ^ 1);  // at first all are empty
  if (scan.flat.width % 4 == 0) {
    if (lane == 0) request_boxes(maps, first, chunk, columns, to, full);
  } else {
    copy_rows(scan, first, chunk, columns, to);
    __syncwarp();
    if (lane == 0) barrier_arrive(full);
  }
  step.next();
}

// Those of both groups side by side, chunk by chunk.
static __device__ void request_tiles(const kd_tensor_maps& maps, const Scan& scan) {
  Step steps[2] = {Step(0, scan.ring), Step(1, scan.ring)};
  const long grid = gridDim.x;
  for (long turn = blockIdx.x; turn < scan.turns(); turn += 2 * grid)
    for (int chunk = 0; chunk < scan.chunks; ++chunk) {
      request_chunk(maps, scan, scan.tile_of(turn) * kTileRows, chunk, steps[0]);
      if (turn + grid < scan.turns())
        request_chunk(maps, scan, scan.tile_of(turn + grid) * kTileRows, chunk, steps[1]);
    }
}

// Four columns of a row of a tile from `column` on; where kSome, 0 from `columns` on.
template <bool kSome>
static __device__ float4 load_four(unsigned from, int column, int columns) {
  float4 x;
  asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
               : "r"(from)
               : "memory");
  if (kSome && column + 4 > columns) {
    if (column >= columns) x.x = 0;
    if (column + 1 >= columns) x.y = 0;
    if (column + 2 >= columns) x.z = 0;
    x.w = 0;
  }
  return x;
}

static __device__ float squares_of(float4 x, float sum) {
  return fmaf(x.x, x.x, fmaf(x.y, x.y, fmaf(x.z, x.z, fmaf(x.w, x.w, sum))));
}

// The first of this thread's two rows of a tile; the other is 8 below.
static __device__ int row_of_thread() {
  const int of_eight = threadIdx.x % 32 / 4;
  return threadIdx.x % 128 / 32 * 16 + of_eight % 2 * 4 + of_eight / 2;
}

// This thread's rows of 128 columns as pairs of bfloat16, as wgmma takes them, and their squares.
template <bool kSome>
static __device__ void load_rows(unsigned tile, int columns, unsigned (&high)[kSteps][4], unsigned (&low)[kSteps][4],
                                 float (&norms)[2]) {
  const int first = threadIdx.x % 4 * 4;
  const unsigned even = tile + place_in_tile(row_of_thread(), first), odd = even ^ 64;
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    const unsigned from = (s % 2 ? odd : even) + s / 2 * kBoxBytes;
    const float4 x = load_four<kSome>(from, 16 * s + first, columns);
    const float4 y = load_four<kSome>(from + 8 * 128, 16 * s + first, columns);
    norms[0] = squares_of(x, norms[0]), norms[1] = squares_of(y, norms[1]);
    split_pair(x.x, x.y, high[s][0], low[s][0]), split_pair(y.x, y.y, high[s][1], low[s][1]);
    split_pair(x.z, x.w, high[s][2], low[s][2]), split_pair(y.z, y.w, high[s][3], low[s][3]);
  }
}

// Products of a tile's 64 rows with the queries, and the squared norms of this thread's two rows.
template <int kQueries>
static __device__ void multiply_tile(const Scan& scan, Step& step, float (&sums)[kQueries / 2], float (&norms)[2]) {
  norms[0] = norms[1] = 0;
  for (int chunk = 0; chunk < scan.chunks; ++chunk, step.next()) {
    const int columns = scan.flat.width - chunk * kColumns;
    unsigned high[kSteps][4], low[kSteps][4];
    barrier_wait(scan.full(step.stage()), step.parity);
    if (columns >= kColumns)
      load_rows<false>(scan.tile(step.stage()), columns, high, low, norms);
    else
      load_rows<true>(scan.tile(step.stage()), columns, high, low, norms);
    __syncwarp();
    if (threadIdx.x % 32 == 0) barrier_arrive(scan.empty(step.stage()));
    const unsigned long long queries = described(scan.queries_at + chunk * bytes_of_chunk(kQueries));
    products_begin();
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      const unsigned long long of_step = queries + s / 4 * (kQueries * 256 / 16) + s % 4 * 2;
      add_product(sums, high[s], of_step, chunk + s > 0);
      add_product(sums, low[s], of_step, 1);
      add_product(sums, high[s], of_step + kQueries * 128 / 16, 1);
    }
    products_commit();
    products_wait<0>();
#pragma unroll
    for (int i = 0; i < kQueries / 2; ++i) asm volatile("" : "+f"(sums[i])::"memory");  // not read before
  }
  for (int r = 0; r < 2; ++r) {
    norms[r] += __shfl_xor_sync(kAll, norms[r], 1);
    norms[r] += __shfl_xor_sync(kAll, norms[r], 2);
  }
}
#endif
