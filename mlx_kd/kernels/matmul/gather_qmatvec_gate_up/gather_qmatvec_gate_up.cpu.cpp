// gather_qmatvec_gate_up: y = act(x Wg^T (+ bias)) * (x Wu^T (+ bias)) of few rows of x, Wg and Wu
// those of each chosen expert, quantised as MLX stores them.
//
// inputs x (M, 1 or A, K); ids (M, A); w, scales, biases of the gate, then of up (E, N, ...); bias
// of both (E, N); output y (M, A, N). Products and their sums with a bias are rounded, the rest is
// float32. Two stages:
//
//   mlx_kd_gather_qmatvec_gate_up       a unit is a row of x: it is put in the order in which the
//                                       codes of W lie
//   mlx_kd_gather_qmatvec_gate_up_rows  a unit is a row of both matrices of one pair of token and
//                                       expert; they are the two streams
#include "../knobs.cpu.h"
#ifndef KD_DIM_M
#define KD_DIM_M 0
#define KD_DIM_A 1
#define KD_DIM_E 2
#define KD_DIM_N 3
#define KD_DIM_K 4
#define KD_DIM_activation 5
#define KD_DIM_bits 6
#define KD_DIM_group 7
#define KD_DIM_mode 8
#define KD_DIM_per_pair 9
#define KD_DIM_has_bias 10
#endif

#include "../experts.cpu.h"
#include "../gate.cpu.h"

constexpr int kBias = kFirst + 2 * kPerMatrix;

extern "C" void mlx_kd_gather_qmatvec_gate_up(const kd_arguments* a, long begin, long end) {
  prepare_rows(a, begin, end);
}

// Lanes of the gate, then of up, for rows from one on.
static Floats sums_with_biases(Floats products, const T* const (&biases)[2], long row, long count) {
  products = rounded_lanes(products);
  if (!biases[0]) return products;
  T added[kLanes] = {};
  for (int i = 0; i < 2; ++i)
    __builtin_memcpy(added + i * kBatch, biases[i] + row, count * sizeof(T));
  return rounded_lanes(products + float_lanes(take<Elements>(added)));
}

// (clip(up, -7, 7) + 1) g sigmoid(1.702 g), g at most 7: the gate of gpt-oss.
static Floats gated_oai(Floats g, Floats up) {
  g = g > 7.0f ? all(7.0f) : g;
  up = up > 7.0f ? all(7.0f) : up < -7.0f ? all(-7.0f) : up;
  return times_sigmoid(g, g, 1.702f) * (up + 1.0f);
}

extern "C" void mlx_kd_gather_qmatvec_gate_up_rows(const kd_arguments* a, long begin, long end) {
  const long activation = a->dims[KD_DIM_activation];
  const auto put = [&](const Prepared& x, long expert, long from, long to, T* y) {
    const T* const biases[2] = {bias_of(a, kBias, expert), bias_of(a, kBias + 1, expert)};
    const long last[2] = {to - 1, to - 1};
    const auto sink = [&](long, long row, long, Floats products) {
      const long count = to - row < kBatch ? to - row : kBatch;
      const Floats sums = sums_with_biases(products, biases, row, count);
      const Floats up = upper_lanes(sums);
      const Elements result =
          element_lanes(activation == 2 ? gated_oai(sums, up) : activated(sums, activation) * up);
      __builtin_memcpy(y + row, &result, count * sizeof(T));
    };
    two_streams(shape_of(a), x, {matrix_of(a, 0, expert), from}, {matrix_of(a, 1, expert), from},
                to - from, last, sink);
  };
  each_pair(a, begin, end, put);
}
