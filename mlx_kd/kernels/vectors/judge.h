// How nearest neighbours are judged, in float64, and what their proofs search.
#pragma once

#include <functional>
#include <vector>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels::vectors {

enum class Metric { l2, inner };

// The pair of a distance: |q - x|^2 or q.x in float64, and what a float32 result may be off by,
// 8 u (|q|^2 + |x|^2).
struct Distance64 {
  double value, allowed;
};
Distance64 distance64(const float* q, const float* x, int64_t width, Metric metric);

// What one query got, the best first, and what it may have got.
struct Answer {
  std::function<Distance64(int64_t row)> distance;
  Metric metric;
  std::vector<int64_t> rows;   // that were searched
  const float* distances;      // (k)
  const int64_t* ids;          // (k)
  const int64_t* ids_of_rows;  // null: an id is its row
  int64_t k;
};

// Three ratios: the error of the distances as a share of what is allowed; how much nearer a row
// that was not found is, as a share of what both distances may be off by; and whether the order is
// wrong, an id occurs twice or is of no row, or results are missing. Rows without a finite distance
// are never found.
struct Ratios {
  double distances = 0, missed = 0, order = 0;

  void take(const Ratios& other);
};
Ratios ratios_of(const Answer& answer);
std::vector<spec::Residual> residuals_of(const Ratios& ratios);

// Writes `count` rows. Normal; scaled by powers of two, row by row; or with rows of NaN, of
// infinities, of zeros and equal ones.
void fill_rows(float* rows, int64_t count, int64_t width, spec::Distribution distribution,
               uint64_t seed);

// Of flat searches: inputs queries and base, outputs distances and ids. All queries of a small
// search are judged, and 8 of a large one.
std::vector<spec::Residual> flat_residuals(const spec::JudgedCase& judged, Metric metric);

}  // namespace mlx_kd::kernels::vectors
