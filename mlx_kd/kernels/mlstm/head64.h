// One head of mLSTM in float64: the weights of its gates, and its arrays.
#pragma once

#include <vector>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::mlstm {

using Doubles = std::vector<double>;

// Whose value m took at a token: of f and m before it, of i, or of m alone.
enum class Turn { past, input, kept };

// What the gates of a head come to. The token s has the weight exp(u_s - x_t) in row t.
struct Gates64 {
  Doubles u, x, m;
  Doubles past;                // weight of the state before the first token
  Doubles floor;               // exp(-m), or 1
  Doubles size_of_m;           // magnitudes of what m is the sum of
  Doubles margin;              // between the two that m is the larger of
  std::vector<int64_t> first;  // no token before it has a weight
  std::vector<Turn> turn;

  double weight(int64_t t, int64_t s) const;
};
Gates64 gates64(const Doubles& i, const Doubles& f, double m0, bool sigmoid);

double log_sigmoid64(double x);
double sigmoid64(double x);

// A head's arrays and sizes; without a state before it, zeros. `shares`: of q, 1/sqrt(DHQK) times
// it.
struct Head64 {
  int64_t s, qk, hv;
  bool sigmoid, normalize, normalizer_grad;
  double eps, m0 = 0;
  Doubles q, k, v, i, f, c0, n0;
};
Head64 head64(const std::vector<const void*>& inputs, spec::Dtype t, const spec::Dims& dims,
              const std::vector<double>& scalars, int64_t head);

// The elements [at, at + count) of an array.
Doubles part64(const void* data, int64_t at, int64_t count, spec::Dtype t);

// A value and the sum of the magnitudes of the terms that made it.
struct Summed {
  double value = 0, size = 0;
  void add(double by, double size_of_by) { value += by, size += size_of_by; }
};
using Sums = std::vector<Summed>;

// Rows h of a head before they are divided, their sums and what divides them.
struct Rows64 {
  Sums scores;      // (S, S): q k^T
  Sums sums;        // r of each row
  Doubles inverse;  // 1 / (N + eps)
  Doubles spread;   // relative error that N may have, in roundings of its terms
};
Rows64 rows64(const Head64& head, const Gates64& gates);

}  // namespace mlx_kd::kernels::mlstm
