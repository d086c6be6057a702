// rope: the decode pack of latent attention. The rope part of each head is rotated in interleaved
// pairs, (a, b) -> (a c - b s, a s + b c), and stands after the nope part, which is copied.
//
// inputs q_nope (B, H, 1, Dn), q_rope (B, H, 1, Dr), kv_nope (B, 1, 1, Dn), k_rope (B, 1, 1, Dr),
// cos (Dr/2), sin (Dr/2); outputs q_out (B, H, 1, Dn + Dr), k_out (B, 1, 1, Dn + Dr); dims B, H_Q,
// D_NOPE, D_ROPE, D_OUT; no params; a unit is a head, the key being the last of each batch.
// Includes no header, so that it compiles in a tenth of a second.
#ifndef KD_DTYPE
#define KD_DTYPE 0  // 0 float32, 1 float16, 2 bfloat16
#endif
#ifndef VEC
#define VEC 16  // bytes of a vector of floats, and of a copy
#endif
#ifndef BF16
#define BF16 0  // bfloat16 is rounded by integer arithmetic (0) or by AVX512_BF16 (1)
#endif
#ifndef COPY
#define COPY 4  // vectors a turn of the copy; 0: the library's memcpy
#endif
#ifndef TURNS
#define TURNS 1  // chunks a turn of the rotation
#endif
#ifndef SPLIT
#define SPLIT 0  // pairs are swapped in place (0), or parted into vectors of a and of b (1)
#endif
#ifndef TABLE
#define TABLE 1  // cos and sin are widened for each head (0), or once a call (1)
#endif
#ifndef EXACT
#define EXACT 1  // each product is rounded, as MLX does (1), or fused with the sum (0)
#endif
#ifndef STREAM
#define STREAM 0  // 1: outputs bypass the caches where they are aligned
#endif

#include "../../common/steps.cpu.h"

#if VEC == 64
#define KD_EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define KD_ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define KD_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define KD_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define KD_TWICE 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7
#define KD_SWAP 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14
#elif VEC == 32
#define KD_EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define KD_ODD 1, 3, 5, 7, 9, 11, 13, 15
#define KD_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define KD_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#define KD_TWICE 0, 0, 1, 1, 2, 2, 3, 3
#define KD_SWAP 1, 0, 3, 2, 5, 4, 7, 6
#else
#define KD_EVEN 0, 2, 4, 6
#define KD_ODD 1, 3, 5, 7
#define KD_LOW 0, 4, 1, 5
#define KD_HIGH 2, 6, 3, 7
#define KD_TWICE 0, 0, 1, 1
#define KD_SWAP 1, 0, 3, 2
#endif

// A chunk is what one rotation takes: kChunk elements, kPairs pairs, and their angles.
constexpr long kPairs = (SPLIT || KD_DTYPE == 2) ? VEC / 4 : VEC / 8;
constexpr long kChunk = 2 * kPairs;
struct Angles {
  Floats c, s;
};

KD_INLINE Floats term(Floats a, Floats b) {
  return EXACT ? product(a, b) : a * b;
}

#if KD_DTYPE == 2
KD_INLINE Floats widen_pairs(const T* from) {
  typedef T Half __attribute__((vector_size(VEC / 2)));
  Half half;
  __builtin_memcpy(&half, from, sizeof half);
  return (Floats)__builtin_shufflevector(Half{}, half, KD_LOW, KD_HIGH);
}
KD_INLINE Angles angles_at(const T* cos, const T* sin) {
  return {widen_pairs(cos), widen_pairs(sin)};
}
#elif SPLIT
KD_INLINE Angles angles_at(const T* cos, const T* sin) {
  return {load(cos).part[0], load(sin).part[0]};
}
#else
KD_INLINE Floats twice(const T* from) {
  typedef T Half __attribute__((vector_size(KD_STEP_BYTES / 2)));
  Half half;
  __builtin_memcpy(&half, from, sizeof half);
  return widen(__builtin_shufflevector(half, half, KD_TWICE)).part[0];
}
// Each angle twice; the sine negative where it meets an a.
KD_INLINE Angles angles_at(const T* cos, const T* sin) {
  Uints sign = {};
  for (int i = 0; i < VEC / 4; i += 2) sign[i] = 0x80000000u;
  return {twice(cos), (Floats)((Uints)twice(sin) ^ sign)};
}
#endif

template <bool kPast>
KD_INLINE void rotate(const T* x, T* y, Angles at) {
#if KD_DTYPE == 2
  const Step v = load(x);
  const Floats a = v.part[0], b = v.part[1];
  put<kPast>(y, {{term(a, at.c) - term(b, at.s), term(a, at.s) + term(b, at.c)}});
#elif SPLIT
  const Floats first = load(x).part[0], second = load(x + kStep).part[0];
  const Floats a = __builtin_shufflevector(first, second, KD_EVEN);
  const Floats b = __builtin_shufflevector(first, second, KD_ODD);
  const Floats ra = term(a, at.c) - term(b, at.s);
  const Floats rb = term(a, at.s) + term(b, at.c);
  put<kPast>(y, {{__builtin_shufflevector(ra, rb, KD_LOW)}});
  put<kPast>(y + kStep, {{__builtin_shufflevector(ra, rb, KD_HIGH)}});
#else
  const Floats v = load(x).part[0];
  const Floats swapped = __builtin_shufflevector(v, v, KD_SWAP);
  put<kPast>(y, {{term(v, at.c) + term(swapped, at.s)}});
#endif
}

KD_INLINE Angles angles_some(const T* cos, const T* sin, long pairs) {
  T c[kPairs] = {}, s[kPairs] = {};
  for (long i = 0; i < pairs; ++i) c[i] = cos[i], s[i] = sin[i];
  return angles_at(c, s);
}

KD_INLINE void rotate_some(const T* x, T* y, Angles at, long count) {
  T from[kChunk] = {}, to[kChunk];
  for (long i = 0; i < count; ++i) from[i] = x[i];
  rotate<false>(from, to, at);
  for (long i = 0; i < count; ++i) y[i] = to[i];
}

// The angles of all chunks, once a call; of longer rope parts for each head.
constexpr long kTableChunks = TABLE ? 2048 / kChunk : 0;
struct Table {
  Angles at[kTableChunks + 1];
};

KD_INLINE void fill(Table& table, const T* cos, const T* sin, long pairs) {
  long chunk = 0;
  for (; (chunk + 1) * kPairs <= pairs; ++chunk)
    table.at[chunk] = angles_at(cos + chunk * kPairs, sin + chunk * kPairs);
  if (chunk * kPairs < pairs)
    table.at[chunk] =
        angles_some(cos + chunk * kPairs, sin + chunk * kPairs, pairs - chunk * kPairs);
}

struct Head {
  const T *nope, *rope;
  T* out;
};

template <bool kTable, bool kPast>
KD_INLINE void rotate_head(const T* x, T* y, long d, const T* cos, const T* sin,
                           const Table& table) {
  const auto at = [&](long j) {
    return kTable ? table.at[j / kChunk] : angles_at(cos + j / 2, sin + j / 2);
  };
  long j = 0;
  for (; j + TURNS * kChunk <= d; j += TURNS * kChunk) {
    KD_UNROLL
    for (int k = 0; k < TURNS; ++k)
      rotate<kPast>(x + j + k * kChunk, y + j + k * kChunk, at(j + k * kChunk));
  }
  for (; j + kChunk <= d; j += kChunk) rotate<kPast>(x + j, y + j, at(j));
  if (j < d) {
    const Angles last =
        kTable ? table.at[j / kChunk] : angles_some(cos + j / 2, sin + j / 2, (d - j) / 2);
    rotate_some(x + j, y + j, last, d - j);
  }
}

KD_INLINE bool aligned(const T* to) {
  return (unsigned long)to % kStepBytes == 0;
}

#if COPY == 0
KD_INLINE void copy_head(const T* from, T* to, long d) {
  __builtin_memcpy(to, from, d * sizeof(T));
}
#else
template <bool kPast>
KD_INLINE void copy_head(const T* from, T* to, long d) {
  long j = 0;
  for (; j + COPY * kStep <= d; j += COPY * kStep) {
    KD_UNROLL
    for (int k = 0; k < COPY; ++k) {
      Stored stored;
      __builtin_memcpy(&stored, from + j + k * kStep, sizeof stored);
      if constexpr (kPast)
        stream(to + j + k * kStep, stored);
      else
        __builtin_memcpy(to + j + k * kStep, &stored, sizeof stored);
    }
  }
  for (; j + kStep <= d; j += kStep) __builtin_memcpy(to + j, from + j, kStepBytes);
  for (; j < d; ++j) to[j] = from[j];
}
KD_INLINE void copy_head(const T* from, T* to, long d) {
  if (STREAM && aligned(to))
    copy_head<STREAM>(from, to, d);
  else
    copy_head<false>(from, to, d);
}
#endif

template <bool kTable>
KD_INLINE void pack_head(const Head& head, const long* dims, const T* cos, const T* sin,
                         const Table& table) {
  copy_head(head.nope, head.out, dims[2]);
  T* to = head.out + dims[2];
  if (STREAM && aligned(to))
    rotate_head<kTable, STREAM>(head.rope, to, dims[3], cos, sin, table);
  else
    rotate_head<kTable, false>(head.rope, to, dims[3], cos, sin, table);
}

template <bool kTable>
static __attribute__((noinline)) void pack_heads(const void* const* inputs, void* const* outputs,
                                                 const long* dims, long begin, long end) {
  const long heads = dims[1], nope = dims[2], rope = dims[3], out = dims[4];
  const T *cos = (const T*)inputs[4], *sin = (const T*)inputs[5];
  Table table;
  if constexpr (kTable) fill(table, cos, sin, rope / 2);
  long batch = begin / (heads + 1), head = begin % (heads + 1);
  for (long unit = begin; unit < end; ++unit) {
    const bool key = head == heads;
    const long row = key ? batch : batch * heads + head;
    pack_head<kTable>(
        {(const T*)inputs[key ? 2 : 0] + row * nope, (const T*)inputs[key ? 3 : 1] + row * rope,
         (T*)outputs[key ? 1 : 0] + row * out},
        dims, cos, sin, table);
    head = key ? 0 : head + 1;
    batch += key;
  }
}

extern "C" void mlx_kd_rope(const void* const* inputs, void* const* outputs, const long* dims,
                            const double*, long begin, long end) {
  if (TABLE && dims[3] <= kTableChunks * kChunk)
    pack_heads<TABLE>(inputs, outputs, dims, begin, end);
  else
    pack_heads<false>(inputs, outputs, dims, begin, end);
  finish_streams();
}
