// A Gaussian process over points: what the search believes while it has seen few (Rasmussen and
// Williams 2006, Gaussian Processes for Machine Learning, sections 2.2, 5.4.1; the additive part:
// Duvenaud, Nickisch, Rasmussen 2011, NIPS).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "mlx_kd/base/random.h"
#include "mlx_kd/search/space/features.h"

namespace mlx_kd::search {

// k = additive ((1 - pairs) A + pairs A^2) + (1 - additive) (1 + r) exp(-r), with
// A = mean over columns of exp(-d_j / additive_length), r = |d| / product_length and d_j the
// distance in column j scaled by 2^w_j. The w_j are fitted.
struct KernelSettings {
  double additive = 0.5, pairs = 0.25;
  double additive_length = 0.5, product_length = 1;
  double noise = 0.02;      // variance, of standardised targets; doubled up to so many times
  int noise_doublings = 0;  // where that makes them likelier
  double shrinkage = 0.15;  // w_j costs shrinkage w_j^2 of the log marginal likelihood
};

// With hints (numbers a point that are thought to go with the targets, such as other runs' values)
// the covariance is 2^amplitude k(x, x') + trust (h(x) . h(x') / hints) + level: the targets may
// follow the hints by more or less than their mean, and lie higher or lower as a whole. The
// amplitude is fitted too.
struct HintSettings {
  double trust = 0.25, level = 0.1;
  int amplitude = -2;
};

struct Prediction {
  double mean, sd;
};

// Rows of training points may be appended one at a time: O(rows^2) each. Predictions remember their
// projections, so that predicting the same point after another row costs O(rows). Not thread-safe;
// the features must outlive it.
class GaussianProcess {
 public:
  GaussianProcess(const Features& features, const KernelSettings& settings);

  // The hints of a point, the same number for each; before the first rows.
  using Hints = std::function<std::vector<double>(size_t point)>;
  void set_hints(Hints hints, const HintSettings& settings);

  // Makes the training rows these points (repeats allowed); what they share with the rows so far,
  // from the first on, is kept.
  void set_rows(const std::vector<size_t>& points);
  // Targets of the rows, in order; standardised by the caller.
  void set_targets(const std::vector<double>& targets);
  Prediction predict(size_t point);

  // One sweep over the dimensions in random order: w_j one up or down, within [-3, 3], kept where
  // the penalised log marginal likelihood of the targets rises. O(dims rows^3).
  void fit_scales(base::Random& random);
  const std::vector<int>& scales() const { return scales_; }  // w_j

 private:
  struct Projection {
    std::vector<double> weights;  // L^-1 k(rows, point)
    double squared = 0;           // of its norm
    double variance = 1;          // k(point, point)
  };
  // A point as covariances see it.
  struct Place {
    std::vector<uint8_t> levels;  // a column each
    std::vector<double> hints;
  };
  // Training rows as covariances see them.
  struct Rows {
    std::vector<std::vector<uint8_t>> levels;  // [column][row]
    std::vector<std::vector<double>> hints;    // [row]
  };
  void tabulate(size_t dim);
  Place place_of(size_t point) const;
  Place place_of_row(size_t row) const;
  double variance_of(const Place& place) const;
  const double* covariances(const Place& place, size_t first, size_t last);
  void sum_columns(const Place& place, size_t first, size_t last);
  double with_hints(double k, const std::vector<double>& a, const std::vector<double>& b) const;
  void factorise(size_t first_row);
  void solve_targets();
  double log_likelihood() const;
  double refitted_likelihood();
  bool try_scale(size_t dim, int scale, double& best);
  bool try_amplitude(int amplitude, double& best);
  bool try_noise(int doublings, double& best);

  const Features* features_;
  KernelSettings settings_;
  Hints hints_;
  HintSettings hint_settings_;
  std::vector<int> scales_;
  int noise_ = 0;  // doublings of settings_.noise
  struct Table {
    size_t width;
    std::vector<double> additive, squared;  // [level a][level b]
  };
  std::vector<Table> tables_;
  std::vector<size_t> rows_;
  Rows places_;                              // of each row
  std::vector<std::vector<double>> factor_;  // lower triangle L of K + noise I, row by row
  std::vector<double> targets_, solved_;     // y, L^-1 y
  std::map<size_t, Projection> projections_;
  // Of covariances(), one per row: sums over the columns, r, exp(-r); the result is in additive_.
  std::vector<double> additive_, distance_, decay_;
};

}  // namespace mlx_kd::search
