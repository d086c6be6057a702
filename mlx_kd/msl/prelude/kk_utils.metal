// What the first version of this system puts in front of the bodies in its packs.
template <typename T>
inline T kk_sigmoid(T x) {
  float e = metal::exp(-metal::fabs(float(x)));
  float r = 1.0f / (1.0f + e);
  return T(x < T(0) ? e * r : r);
}

template <typename T>
inline T kk_silu(T x) {
  return T(float(x) * kk_sigmoid(float(x)));
}

template <typename T>
inline T kk_gelu_tanh(T x) {
  float v = float(x);
  float inner = 0.7978845608028654f * (v + 0.044715f * v * v * v);
  return T(0.5f * v * (1.0f + metal::precise::tanh(inner)));
}

// Afterwards buf[0], threadgroup memory of TG floats, is the sum of val over the TG threads of the
// group; all of them pass through it.
#define KK_SIMD_REDUCE_SUM(buf, val, tid, TG)                                       \
  {                                                                                 \
    float kk_part = metal::simd_sum(float(val));                                    \
    if ((tid) % 32 == 0) (buf)[(tid) / 32] = kk_part;                               \
    threadgroup_barrier(metal::mem_flags::mem_threadgroup);                         \
    for (uint kk_step = 1; kk_step < ((TG) + 31) / 32; kk_step *= 2) {              \
      if ((tid) % (2 * kk_step) == 0 && (tid) + kk_step < ((TG) + 31) / 32)         \
        (buf)[(tid)] += (buf)[(tid) + kk_step];                                     \
      threadgroup_barrier(metal::mem_flags::mem_threadgroup);                       \
    }                                                                               \
  }
