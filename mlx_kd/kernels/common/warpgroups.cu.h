// clang-format off
// What a GPU of sm_90a has for products: barriers that count bytes, bulk copies by tensor maps, and products
// of a warpgroup (4 warps) from shared memory.
//
// Tiles of operands have rows of 64 numbers of 16 bits, swizzled in 128 bytes, so that row r has its 16 bytes
// number c in place c ^ (r % 8). Such a tile starts at a multiple of 1024 bytes.
#pragma once

static __device__ unsigned shared_address(const void* at) {
  return (unsigned)__cvta_generic_to_shared(at);
}

static __device__ void barrier_init(unsigned barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}
// One arrival, and so many bytes to wait for.
static __device__ void barrier_expect(unsigned barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
static __device__ void barrier_arrive(unsigned barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// At the barrier in the same place of another block of the cluster.
static __device__ void barrier_arrive_at(unsigned barrier, int block) {
  asm volatile(
      "{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n}\n" ::"r"(barrier), "r"(block)
      : "memory");
}
static __device__ void barrier_wait(unsigned barrier, int parity) {
  asm volatile(
      "{\n.reg .pred done;\n"
      "again:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra ready;\nbra again;\nready:\n}\n" ::"r"(barrier), "r"(parity)
      : "memory");
}

// A tile at column x and row y of the map's matrix. What lies outside comes as zeros, and is not stored.
static __device__ void load_tile(unsigned to, const void* map, int x, int y, unsigned barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::
          "r"(to), "l"(map), "r"(x), "r"(y), "r"(barrier)
      : "memory");
}
// The same, to the same place in all blocks of `mask`, and counted by the barriers of all.
static __device__ void load_tile_to(unsigned to, const void* map, int x, int y, unsigned barrier, int mask) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster"
      " [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(to), "l"(map), "r"(x), "r"(y), "r"(barrier), "h"((short)mask)
      : "memory");
}
// So many bytes as they lie: a multiple of 16, from and to multiples of it.
static __device__ void load_bytes(unsigned to, const void* from, int bytes, unsigned barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(barrier)
               : "memory");
}
static __device__ void store_tile(unsigned from, const void* map, int x, int y) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];" ::"l"(map), "r"(x),
               "r"(y), "r"(from)
               : "memory");
}
static __device__ void stores_commit() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
// Until the tiles of all stores were read.
static __device__ void stores_read() {
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}
// What this thread wrote is seen by bulk copies and products.
static __device__ void fence_copies() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

static __device__ void products_begin() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
static __device__ void products_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kInFlight>
static __device__ void products_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kInFlight) : "memory");
}

// Sums are not read before the products that were waited for, nor kept elsewhere while products add to them.
template <int kCount>
static __device__ void hold(float (&sums)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(sums[i])::"memory");
}

static __device__ int block_in_cluster() {
  int rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
static __device__ void cluster_meets() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
// Of the threads of one warpgroup.
static __device__ void group_meets(int group) {
  asm volatile("bar.sync %0, 128;" ::"r"(group + 1) : "memory");
}

// Turns of two warpgroups: one waits until the other has passed the turn on to it.
static __device__ void turn_wait(int group) {
  asm volatile("bar.sync %0, 256;" ::"r"(group + 3) : "memory");
}
static __device__ void turn_pass(int group) {
  asm volatile("bar.arrive %0, 256;" ::"r"((group ^ 1) + 3) : "memory");
}

// Where a tile with swizzled rows lies, for products along its rows; 16 numbers on is 2 more.
static __device__ unsigned long long described(unsigned tile) {
  return (1ull << 62) | (64ull << 32) | (1ull << 16) | (tile & 0x3ffff) >> 4;
}
// The same for products across its rows, which are 64: 16 rows on is 128 more; the next 64 columns lie behind the last row.
static __device__ unsigned long long described_across(unsigned tile) {
  return (1ull << 62) | (64ull << 32) | (512ull << 16) | (tile & 0x3ffff) >> 4;
}

#if KD_DTYPE == 1
#define KD_NUMBERS "f16"
#else
#define KD_NUMBERS "bf16"
#endif
#define KD_SUMS4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define KD_SUMS16(d, i) KD_SUMS4(d, i), KD_SUMS4(d, i + 4), KD_SUMS4(d, i + 8), KD_SUMS4(d, i + 12)

// d (+)= a b^T of 64 rows of a, kColumns rows of b and 16 numbers of each; `keeps`: whether d counts.
// A thread of a warpgroup has rows 16 warp + lane / 4 (d[4 j], d[4 j + 1]) and 8 more (d[4 j + 2], d[4 j + 3]),
// in columns 8 j + 2 (lane % 4) and the next. kAcrossA, kAcrossB: 1 where that operand lies transposed.
template <int kColumns, int kAcrossA = 0, int kAcrossB = 0> struct Product;

template <int kAcrossA, int kAcrossB> struct Product<128, kAcrossA, kAcrossB> {
  static __device__ void add(float (&d)[64], unsigned long long a, unsigned long long b, int keeps) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32." KD_NUMBERS "." KD_NUMBERS " "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"
        " %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31,"
        " %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47,"
        " %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
        "%64, %65, p, 1, 1, %67, %68;\n}\n"
        : KD_SUMS16(d, 0), KD_SUMS16(d, 16), KD_SUMS16(d, 32), KD_SUMS16(d, 48)
        : "l"(a), "l"(b), "r"(keeps), "n"(kAcrossA), "n"(kAcrossB));
  }
};

template <int kAcrossA, int kAcrossB> struct Product<256, kAcrossA, kAcrossB> {
  static __device__ void add(float (&d)[128], unsigned long long a, unsigned long long b, int keeps) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n256k16.f32." KD_NUMBERS "." KD_NUMBERS " "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"
        " %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31,"
        " %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47,"
        " %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63,"
        " %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79,"
        " %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95,"
        " %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111,"
        " %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, "
        "%128, %129, p, 1, 1, %131, %132;\n}\n"
        : KD_SUMS16(d, 0), KD_SUMS16(d, 16), KD_SUMS16(d, 32), KD_SUMS16(d, 48),
          KD_SUMS16(d, 64), KD_SUMS16(d, 80), KD_SUMS16(d, 96), KD_SUMS16(d, 112)
        : "l"(a), "l"(b), "r"(keeps), "n"(kAcrossA), "n"(kAcrossB));
  }
};

// Of fewer rows of b: 32, 64, 80 or 96. a lies in shared memory as above (add), or in registers (add_registers): of
// rows 16 warp + lane / 4 and 8 more, numbers 2 (lane % 4) and the next, then 8 more.
#define KD_LIST8(a, b, c, d, e, f, g, h) "%" #a ", %" #b ", %" #c ", %" #d ", %" #e ", %" #f ", %" #g ", %" #h
#define KD_LIST16 KD_LIST8(0, 1, 2, 3, 4, 5, 6, 7) ", " KD_LIST8(8, 9, 10, 11, 12, 13, 14, 15)
#define KD_LIST32 KD_LIST16 ", " KD_LIST8(16, 17, 18, 19, 20, 21, 22, 23) ", " KD_LIST8(24, 25, 26, 27, 28, 29, 30, 31)
#define KD_LIST40 KD_LIST32 ", " KD_LIST8(32, 33, 34, 35, 36, 37, 38, 39)
#define KD_LIST48 KD_LIST40 ", " KD_LIST8(40, 41, 42, 43, 44, 45, 46, 47)
#define KD_SUMS32(d) KD_SUMS16(d, 0), KD_SUMS16(d, 16)
#define KD_SUMS40(d) KD_SUMS32(d), KD_SUMS4(d, 32), KD_SUMS4(d, 36)
#define KD_SUMS48(d) KD_SUMS32(d), KD_SUMS16(d, 32)

// The operands are numbered from the count of sums on.
#define KD_NARROW_PRODUCT(columns, list, sums, o0, o1, o2, o3, o4, o5)                                               \
  template <> struct Product<columns> {                                                                             \
    static __device__ void add(float (&d)[columns / 2], unsigned long long a, unsigned long long b, int keeps) {    \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #o2 ", 0;\n"                                               \
                   "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." KD_NUMBERS "." KD_NUMBERS " {" list "}, " \
                   "%" #o0 ", %" #o1 ", p, 1, 1, 0, 0;\n}\n"                                                        \
                   : sums : "l"(a), "l"(b), "r"(keeps));                                                            \
    }                                                                                                               \
    static __device__ void add_registers(float (&d)[columns / 2], const unsigned (&a)[4], unsigned long long b,     \
                                         int keeps) {                                                               \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #o5 ", 0;\n"                                               \
                   "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." KD_NUMBERS "." KD_NUMBERS " {" list "}, " \
                   "{%" #o0 ", %" #o1 ", %" #o2 ", %" #o3 "}, %" #o4 ", p, 1, 1, 0;\n}\n"                           \
                   : sums : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keeps));                        \
    }                                                                                                               \
  };
KD_NARROW_PRODUCT(32, KD_LIST16, KD_SUMS16(d, 0), 16, 17, 18, 19, 20, 21)
KD_NARROW_PRODUCT(64, KD_LIST32, KD_SUMS32(d), 32, 33, 34, 35, 36, 37)
KD_NARROW_PRODUCT(80, KD_LIST40, KD_SUMS40(d), 40, 41, 42, 43, 44, 45)
KD_NARROW_PRODUCT(96, KD_LIST48, KD_SUMS48(d), 48, 49, 50, 51, 52, 53)
