// The exchanges of kd_simd.h on the executor. Included inside namespace metal.

KD_FN uint kd_lane() { return kd_bound->lane(); }
KD_FN void kd_barrier(kd_site site, int kind, int flags) { kd_bound->barrier(site.id, kind, flags); }

template <class In, class Out, class F>
void kd_run(unsigned active, const void* const* in, void* const* out) {
  F::run(active, reinterpret_cast<const In* const*>(in), reinterpret_cast<Out* const*>(out));
}
template <class Out, class F, class In>
KD_FN Out kd_meet(kd_site site, int width, In in) {
  Out out;
  kd_bound->meet(site.id, width, &in, &out, &kd_run<In, Out, F>);
  return out;
}

// Halves again and again, as hardware does: sums differ from left to right in rounding.
template <class T, class Op, int W>
struct kd_reduce_run {
  static void run(unsigned active, const T* const* in, T* const* out) {
    for (int first = 0; first < 32; first += W) {
      T t[W];
      int n = 0;
      for (int l = first; l < first + W; ++l)
        if (active >> l & 1) t[n++] = *in[l];
      for (int half = (n + 1) / 2; n > 1; n = half, half = (n + 1) / 2)
        for (int i = 0; i + half < n; ++i) t[i] = Op::template join<T>(t[i], t[i + half]);
      for (int l = first; l < first + W; ++l)
        if (active >> l & 1) *out[l] = t[0];
    }
  }
};
template <class T, class Op, int W>
KD_FN T kd_reduce(kd_site site, T v) {
  return kd_meet<T, kd_reduce_run<T, Op, W>>(site, W, v);
}

template <class T, class Op, bool Exclusive, int W>
struct kd_scan_run {
  static void run(unsigned active, const T* const* in, T* const* out) {
    for (int first = 0; first < 32; first += W) {
      T sum = Op::template none<T>();
      for (int l = first; l < first + W; ++l) {
        if (!(active >> l & 1)) continue;
        const T next = Op::template join<T>(sum, *in[l]);
        *out[l] = Exclusive ? sum : next;
        sum = next;
      }
    }
  }
};
template <class T, class Op, bool Exclusive, int W>
KD_FN T kd_scan(kd_site site, T v) {
  return kd_meet<T, kd_scan_run<T, Op, Exclusive, W>>(site, W, v);
}

template <class T>
struct kd_sent {
  T v;
  int from;
};
template <class T, int W>
struct kd_shuffle_run {
  static void run(unsigned active, const kd_sent<T>* const* in, T* const* out) {
    for (int l = 0; l < 32; ++l) {
      if (!(active >> l & 1)) continue;
      const int from = (l & ~(W - 1)) + in[l]->from;
      const bool there = in[l]->from >= 0 && in[l]->from < W && (active >> from & 1);
      *out[l] = in[there ? from : l]->v;
    }
  }
};
template <class T, int W>
KD_FN T kd_shuffle(kd_site site, T v, int from) {
  return kd_meet<T, kd_shuffle_run<T, W>>(site, W, kd_sent<T>{v, from});
}
template <class T, int W>
struct kd_first_run {
  static void run(unsigned active, const T* const* in, T* const* out) {
    for (int first = 0; first < 32; first += W)
      for (int l = first, source = -1; l < first + W; ++l) {
        if (!(active >> l & 1)) continue;
        if (source < 0) source = l;
        *out[l] = *in[source];
      }
  }
};
template <class T, int W>
KD_FN T kd_first(kd_site site, T v) {
  return kd_meet<T, kd_first_run<T, W>>(site, W, v);
}

struct kd_votes {
  uint votes, active;
};
struct kd_ballot_run {
  static void run(unsigned active, const bool* const* in, kd_votes* const* out) {
    uint votes = 0;
    for (int l = 0; l < 32; ++l)
      if (active >> l & 1) votes |= uint(*in[l]) << l;
    for (int l = 0; l < 32; ++l)
      if (active >> l & 1) *out[l] = kd_votes{votes, active};
  }
};
KD_FN kd_votes kd_ballot(kd_site site, bool v) { return kd_meet<kd_votes, kd_ballot_run>(site, 32, v); }
