// How good a strategy is on a space where everything was measured: 0 is random search, 1 the
// optimum (Willemsen et al. 2024, "A methodology for comparing optimization algorithms for
// auto-tuning", Future Generation Computer Systems 159, sections 4.2 to 4.4; the rules as its
// program, version 1.2.0, applies them).
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/search/replay/replay.h"

namespace mlx_kd::search {

// What a strategy is measured against on one space. Refers to the recording.
//
// Values are sorted from worst to best; N of them. The budget at which random search is expected
// to come the share p of the way from the median to the optimum is t(p); the score is the mean, at
// 1,000 times between t(0.01) and t(0.95), of (F - base) / (optimum - base), F what the strategy
// reached by then (isotonic regression over all repeats), base what random search would.
class Scorer {
 public:
  // Misuse (room search), naming the recording, unless at least two values are valid and the least
  // lies below the median.
  explicit Scorer(const Recording& recording);

  double budget() const { return 1.1 * end_; }  // cost that a strategy may spend
  double evaluations() const { return budget() / mean_cost_; }
  // Evaluations that random search is expected to need for p = 0.95.
  size_t random_evaluations() const { return random_evaluations_; }

  // "too few points to score (12): the baseline is at the optimum ...": then scores are NaN. Else
  // "".
  const std::string& too_few() const { return too_few_; }

  using Walks = std::vector<std::vector<size_t>>;  // points in order of evaluation, one a repeat
  double score(const Walks& walks) const;
  // (F - base) / (optimum - base) at the 1,000 times; nothing if no walk found a valid point in
  // time.
  std::vector<double> curve(const Walks& walks) const;
  // Scores of `count` bootstrap samples of the walks.
  std::vector<double> resampled(const Walks& walks, size_t count, uint64_t seed) const;
  const std::vector<double>& times() const { return times_; }  // in units of cost

 private:
  struct Step {
    double time;
    double rank;  // of the best so far, 0 the optimum
    size_t walk;
  };
  size_t evaluations_for(double share) const;
  void set_times();
  void set_base();
  std::vector<Step> steps_of(const Walks& walks) const;
  std::vector<double> curve_of(const std::vector<Step>& steps,
                               const std::vector<double>& weights) const;

  const Recording* recording_;
  std::vector<double> ascending_;  // valid values
  std::vector<double> rank_;       // of each point's value; infinite if it failed
  std::vector<double> times_, base_;
  double median_ = 0, mean_cost_ = 0, start_ = 0, end_ = 0;
  size_t random_evaluations_ = 0;
  std::string too_few_;
};

// A score that no walk deserves: none of them found a valid point in time.
inline constexpr double kNoScore = -9;

}  // namespace mlx_kd::search
