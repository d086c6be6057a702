// simdgroup_matrix<T, 8, 8>: two elements a lane, laid out over the lanes as on Apple's GPUs.
#pragma once

namespace metal {

template <class T, int C, int R>
struct simdgroup_matrix {
  static_assert(C == 8 && R == 8, "Metal has simdgroup matrices of 8 x 8 alone");
  static_assert(kd_is_float<T>, "Metal has simdgroup matrices of half, bfloat and float alone");
  typedef vec<T, 2> storage_type;
  vec<T, 2> kd_pair;
  simdgroup_matrix() = default;
  KD_DEVICE explicit simdgroup_matrix(T diagonal) {
    const int r = row(), c = column();
    kd_pair = vec<T, 2>(r == c ? diagonal : T(0), r == c + 1 ? diagonal : T(0));
  }
  KD_DEVICE vec<T, 2>& thread_elements() { return kd_pair; }
  KD_DEVICE const vec<T, 2>& thread_elements() const { return kd_pair; }
  // Of the lane's first element; the second stands to its right.
  KD_FN static int row_of(int lane) { return ((lane >> 2) & 4) + ((lane >> 1) & 3); }
  KD_FN static int column_of(int lane) { return ((lane >> 1) & 4) + (lane & 1) * 2; }
  KD_DEVICE static int row() { return row_of(int(kd_lane())); }
  KD_DEVICE static int column() { return column_of(int(kd_lane())); }
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
typedef simdgroup_matrix<bfloat, 8, 8> simdgroup_bfloat8x8;

#if KD_CUDA
#define KD_TAG
#else
#define KD_TAG kd_site,
#endif

template <class T>
KD_DEVICE void simdgroup_load(KD_TAG simdgroup_matrix<T, 8, 8>& to, const T* from, ulong stride = 8,
                              vec<ulong, 2> origin = vec<ulong, 2>(0ul), bool transposed = false) {
  const ulong r = ulong(to.row()), c = ulong(to.column());
  for (ulong i = 0; i < 2; ++i)
    to.kd_pair[int(i)] = transposed ? from[(origin.y + c + i) * stride + origin.x + r]
                                    : from[(origin.y + r) * stride + origin.x + c + i];
}
template <class T>
KD_DEVICE void simdgroup_store(KD_TAG const simdgroup_matrix<T, 8, 8>& from, T* to, ulong stride = 8,
                               vec<ulong, 2> origin = vec<ulong, 2>(0ul), bool transposed = false) {
  const ulong r = ulong(from.row()), c = ulong(from.column());
  for (ulong i = 0; i < 2; ++i) {
    const ulong at = transposed ? (origin.y + c + i) * stride + origin.x + r
                                : (origin.y + r) * stride + origin.x + c + i;
    to[at] = from.kd_pair[int(i)];
  }
}

// Lane that holds the element (row, column).
KD_FN int kd_holder(int row, int column) {
  return ((row & 4) << 2) + ((column & 4) << 1) + ((row & 3) << 1) + ((column >> 1) & 1);
}

#if KD_CUDA
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
// 8 x 8 x 8 as the upper half of the tensor cores' 16 x 8 x 8. Lane l there has the elements
// (l / 4, 2 (l % 4)) and the next of a and of the sum, and those of b with row and column exchanged.
template <class A>
KD_DEVICE void kd_tensor_multiply(float (&sum)[2], vec<A, 2> a, vec<A, 2> b, int row, int column) {
  const int lane = int(kd_lane()), r = lane >> 2, c = (lane & 3) * 2;
  const uint left = KD_BITS(uint, kd_move(a, kd_holder(r, c)));
  const uint upper = KD_BITS(uint, kd_move(b, kd_holder(c, r))) >> (r & 1) * 16;
  const uint lower = KD_BITS(uint, kd_move(b, kd_holder(c + 1, r))) >> (r & 1) * 16;
  const uint right = (upper & 0xffffu) | (lower << 16);
  float d[4] = {kd_move(sum[0], kd_holder(r, c)), kd_move(sum[1], kd_holder(r, c)), 0.0f, 0.0f};
  if constexpr (kd_same<A, half>)
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(left), "r"(0u), "r"(right));
  else
    asm("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(left), "r"(0u), "r"(right));
  sum[0] = kd_move(d[0], row * 4 + column / 2);
  sum[1] = kd_move(d[1], row * 4 + column / 2);
}
template <class A, class B>
inline constexpr bool kd_on_tensor_cores = kd_same<A, B> && kd_is_small<A>;
#else
template <class A>
KD_DEVICE void kd_tensor_multiply(float (&)[2], vec<A, 2>, vec<A, 2>, int, int) {}
template <class A, class B>
inline constexpr bool kd_on_tensor_cores = false;
#endif

// float has no unit that keeps its 24 bits: it is multiplied by the ordinary ones.
template <class D, class A, class B, class C>
KD_DEVICE void simdgroup_multiply_accumulate(simdgroup_matrix<D, 8, 8>& d,
                                             const simdgroup_matrix<A, 8, 8>& a,
                                             const simdgroup_matrix<B, 8, 8>& b,
                                             const simdgroup_matrix<C, 8, 8>& c) {
  float sum[2] = {float(c.kd_pair.x), float(c.kd_pair.y)};
  const int row = d.row(), column = d.column();
  if constexpr (kd_on_tensor_cores<A, B>) {
    kd_tensor_multiply(sum, a.kd_pair, b.kd_pair, row, column);
  } else {
    for (int k = 0; k < 8; ++k) {
      const vec<A, 2> left = kd_move(a.kd_pair, kd_holder(row, k));
      const vec<B, 2> right = kd_move(b.kd_pair, kd_holder(k, column));
      for (int i = 0; i < 2; ++i) sum[i] += float(left[k & 1]) * float(right[i]);
    }
  }
  d.kd_pair = vec<D, 2>(D(sum[0]), D(sum[1]));
}
template <class D, class A, class B>
KD_DEVICE void simdgroup_multiply(simdgroup_matrix<D, 8, 8>& d, const simdgroup_matrix<A, 8, 8>& a,
                                  const simdgroup_matrix<B, 8, 8>& b) {
  simdgroup_multiply_accumulate(d, a, b, simdgroup_matrix<D, 8, 8>(D(0)));
}
#else
struct kd_mma_in {
  float a[2], b[2], c[2];
};
struct kd_mma_out {
  float d[2];
};
// One lane multiplies for all.
struct kd_mma_run {
  static void run(unsigned active, const kd_mma_in* const* in, kd_mma_out* const* out) {
    float a[8][8] = {}, b[8][8] = {};
    typedef simdgroup_matrix<float, 8, 8> M;
    for (int l = 0; l < 32; ++l)
      for (int i = 0; i < 2 && (active >> l & 1); ++i) {
        a[M::row_of(l)][M::column_of(l) + i] = in[l]->a[i];
        b[M::row_of(l)][M::column_of(l) + i] = in[l]->b[i];
      }
    for (int l = 0; l < 32; ++l)
      for (int i = 0; i < 2 && (active >> l & 1); ++i) {
        float sum = in[l]->c[i];
        for (int k = 0; k < 8; ++k) sum += a[M::row_of(l)][k] * b[k][M::column_of(l) + i];
        out[l]->d[i] = sum;
      }
  }
};
template <class D, class A, class B, class C>
KD_FN void simdgroup_multiply_accumulate(kd_site site, simdgroup_matrix<D, 8, 8>& d,
                                         const simdgroup_matrix<A, 8, 8>& a,
                                         const simdgroup_matrix<B, 8, 8>& b,
                                         const simdgroup_matrix<C, 8, 8>& c) {
  kd_mma_in in;
  for (int i = 0; i < 2; ++i) {
    in.a[i] = float(a.kd_pair[i]), in.b[i] = float(b.kd_pair[i]), in.c[i] = float(c.kd_pair[i]);
  }
  const kd_mma_out r = kd_meet<kd_mma_out, kd_mma_run>(site, 32, in);
  d.kd_pair = vec<D, 2>(D(r.d[0]), D(r.d[1]));
}
template <class D, class A, class B>
KD_FN void simdgroup_multiply(kd_site site, simdgroup_matrix<D, 8, 8>& d,
                              const simdgroup_matrix<A, 8, 8>& a,
                              const simdgroup_matrix<B, 8, 8>& b) {
  simdgroup_multiply_accumulate(site, d, a, b, simdgroup_matrix<D, 8, 8>(D(0)));
}
#endif
#undef KD_TAG

// Its lanes meet at a site of their own: an operator has no place for the number of one.
template <class A, class B>
KD_DEVICE simdgroup_matrix<A, 8, 8> operator*(simdgroup_matrix<A, 8, 8> a,
                                              simdgroup_matrix<B, 8, 8> b) {
  simdgroup_matrix<A, 8, 8> d;
#if KD_CUDA
  simdgroup_multiply(d, a, b);
#else
  simdgroup_multiply(kd_site{65535}, d, a, b);
#endif
  return d;
}

template <class T, int C, int R = C>
KD_DEVICE simdgroup_matrix<T, C, R> make_filled_simdgroup_matrix(kd_given<T> v) {
  simdgroup_matrix<T, C, R> m;
  m.kd_pair = vec<T, 2>(v);
  return m;
}
template <class T, int C, int R>
KD_DEVICE simdgroup_matrix<T, C, R> make_diagonal_simdgroup_matrix(T v) {
  return simdgroup_matrix<T, C, R>(v);
}

}  // namespace metal
