// clang-format off
// The cotangents of the memory and of n behind each chunk, from the last chunk to the first: as scan.cu.h, with queries
// and dh. They take the place of the memory before the chunk, whose product with them is what m hands through it.
#pragma once
static __device__ Share share_of_cotangent(const kd_arguments& a, const Sizes& z, long head, int chunk) {
  const int own = threadIdx.x, token = chunk * z.chunk + own;
  if (own >= z.chunk || token >= z.S) return {0.0f, 0.0f};
  const float past = rsqrtf((float)z.DHQK) * gates_of(a, head * z.S + token)->past;
  const Number* const number = numbers_of(a, z, head * z.S + token);
  return {scaled(past, number->inverse), scaled(past, number->dr)};
}

// Eight floats in two parts, as they are kept.
struct Parts {
  uint4 high, low;
};
static __device__ float product_with(const Parts& parts, const float (&eight)[8]) {
  const unsigned highs[4] = {parts.high.x, parts.high.y, parts.high.z, parts.high.w}, lows[4] = {parts.low.x, parts.low.y, parts.low.z, parts.low.w};
  float sum = 0.0f;
#pragma unroll
  for (int j = 0; j < 4; ++j)
    sum += eight[2 * j] * (lower_of(highs[j]) + lower_of(lows[j])) + eight[2 * j + 1] * (upper_of(highs[j]) + upper_of(lows[j]));
  return sum;
}
// A lane's part of the memory before a chunk: rows row and row + 8.
static __device__ void load_parts(const kd_arguments& a, const Sizes& z, const Scan& w, int chunk, Parts (&parts)[2]) {
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    if (w.row + 8 * e >= z.DHQK || w.column >= z.DHHV) continue;
    const T* const at = planes_of(a, z, w.head, chunk) + (long)(w.row + 8 * e) * pitch_of(z) + w.column;
    parts[e] = {*(const uint4*)at, *(const uint4*)(at + (long)z.DHQK * pitch_of(z))};
  }
}

// The sum over all threads, for thread 0, once all have met.
static __device__ void sum_of_warps(float x, float (&parts)[kWarps]) {
#pragma unroll
  for (int other = 16; other > 0; other /= 2) x += __shfl_xor_sync(0xffffffffu, x, other);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
}

static __device__ void scan_cotangents(const kd_arguments& a) {
  ScanShelf& s = *(ScanShelf*)shared;
  const Sizes z = sizes_of(a);
  const Scan w = scan_of();
  const T *const queries = (const T*)a.inputs[kQ], *const values = (const T*)a.inputs[kDh];
  const long plane = (long)z.DHQK * pitch_of(z), memory = w.head * z.DHQK * z.DHHV;
  Sums sums[4] = {}, dn = {};
  each_eight(sums, w.row, [&](int row, float (&eight)[8]) { load_state((const float*)a.inputs[9] + memory, z, w, row, eight); });
#pragma unroll
  for (int e = 0; e < 2; ++e)
    if (w.is_lane_of_n && w.row + 8 * e < z.DHQK) dn.at[2 * e] = ((const float*)a.inputs[10])[w.head * z.DHQK + w.row + 8 * e];
  Share share = share_of_cotangent(a, z, w.head, z.chunks - 1);
  float last = past_of_chunk(a, z, w.head, z.chunks - 1);
  Parts before[2] = {};
  load_parts(a, z, w, z.chunks - 1, before);
  request_chunk(z, queries, values, w.head, z.chunks - 1, w.column0, s, (z.chunks - 1) % 2);
  for (int chunk = z.chunks - 1; chunk >= 0; --chunk) {
    const int following = max(chunk - 1, 0);
    float last_next;
    Parts before_next[2] = {};
    const auto next = [&] {
      if (chunk > 0) request_chunk(z, queries, values, w.head, chunk - 1, w.column0, s, (chunk - 1) % 2);
      if (chunk > 0) load_parts(a, z, w, following, before_next);
      last_next = past_of_chunk(a, z, w.head, following);
      return share_of_cotangent(a, z, w.head, following);
    };
    const auto between = [&] {
      T* const planes = planes_of(a, z, w.head, chunk);
      float through = 0.0f;
      each_eight(sums, w.row, [&](int row, float (&eight)[8]) {
        if (row < z.DHQK && w.column < z.DHHV) {
          T* const at = planes + (long)row * pitch_of(z) + w.column;
          if (last != 0.0f) through += product_with(before[row > w.row], eight);
          store_planes(at, plane, eight);
        }
#pragma unroll
        for (int j = 0; j < 8; ++j) eight[j] = scaled(last, eight[j]);
      });
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        if (w.is_lane_of_n && w.row + 8 * e < z.DHQK) {
          if (last != 0.0f) through += dn.at[2 * e] * n_of(a, z, w.head, chunk)[w.row + 8 * e];
          dn_of(a, z, w.head, chunk)[w.row + 8 * e] = dn.at[2 * e];
        }
        dn.at[2 * e] = scaled(last, dn.at[2 * e]);
      }
      sum_of_warps(scaled(last, through), s.parts);
    };
    pass_chunk(z, w, s, chunk % 2, min(z.chunk, z.S - chunk * z.chunk), share, sums, dn, next, between);
    if (threadIdx.x == 0) {
      float through = 0.0f;
#pragma unroll
      for (int warp = 0; warp < kWarps; ++warp) through += s.parts[warp];
      through_of(a, z, w.head, chunk)[blockIdx.y] = through;
    }
    last = last_next;
    before[0] = before_next[0], before[1] = before_next[1];
  }
  if (!z.has_state) return;
  each_eight(sums, w.row, [&](int row, float (&eight)[8]) { store_state((float*)a.outputs[5] + memory, z, w, row, eight, 1.0f); });
#pragma unroll
  for (int e = 0; e < 2; ++e)
    if (w.is_lane_of_n && w.row + 8 * e < z.DHQK) ((float*)a.outputs[6])[w.head * z.DHQK + w.row + 8 * e] = dn.at[2 * e];
}
