// What going on with a search may still gain: what --min-gain stops at, and reports draw.
#pragma once

#include <cstddef>
#include <deque>
#include <vector>

#include "mlx_kd/search/strategy/gaussian_process.h"

namespace mlx_kd::search {

struct OutlookSettings {
  double doubt = 0.05;  // expected number of candidates that gain more than is reported
  double rate = 0.125;  // of each surprise in the mean of surprises
  double most = 25;     // a surprise counts as, at most (squared standard deviations)
  size_t steps = 48;    // recent steps, of which the most optimistic estimate is reported
};

// A surrogate is sure too soon: it has chosen the scales that explain what it saw. So its standard
// deviations are widened by how far the values that came lay from what it had believed of them
// (root mean square of the standardised residuals, lately; never narrowed), and what is reported is
// not what the best candidate is expected to gain but what one of them gains with a chance of about
// one in twenty, at its greatest over the last few steps. Nor is it less than what the second half
// of the walk has gained. Not thread-safe.
class GainOutlook {
 public:
  explicit GainOutlook(const OutlookSettings& settings = {}) : settings_(settings) {}

  // A value, and what had been believed of it.
  void saw(double value, const Prediction& belief);
  // The best value after each evaluation, in order; infinite while nothing is valid.
  void best_is(double best) { bests_.push_back(best); }

  // What is believed of the candidates of this step. In the unit of values; never negative.
  // Infinite where the first half of the walk found nothing.
  double look(double best, const std::vector<Prediction>& candidates);

 private:
  double chance_of(double gain, double best, const std::vector<Prediction>& candidates) const;
  double likely_gain(double best, const std::vector<Prediction>& candidates) const;
  double gained_lately() const;

  OutlookSettings settings_;
  double surprise_ = 1, widening_ = 1;
  std::vector<double> bests_;
  std::deque<double> looks_;
};

}  // namespace mlx_kd::search
