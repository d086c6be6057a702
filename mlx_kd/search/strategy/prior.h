// What earlier runs on neighbouring sizes, types or devices said about the points of a space.
#pragma once

#include <memory>
#include <vector>

#include "mlx_kd/search/strategy/extra_trees.h"
#include "mlx_kd/search/strategy/strategy.h"

namespace mlx_kd::search {

// Each run gives every point an opinion: its value less the run's median, at most 0 (failures and
// values above the median are 0). What a run did not observe, trees grown on what it did guess.
// Refers to the features. Not thread-safe.
class Prior {
 public:
  explicit Prior(const Features& features) : features_(&features) {}

  // Observations of one run, as points of this space. A run with fewer than two valid values, or
  // with none below its median, has no opinion and is left out. O(points).
  void add(const std::vector<Observation>& run);
  size_t runs() const { return runs_.size(); }
  // One per run, in the order added.
  std::vector<double> opinions(size_t point);
  double mean_opinion(size_t point);
  // All points that a run observed, best mean opinion first.
  const std::vector<size_t>& ranking() const { return ranking_; }
  // Standard deviation of the mean opinion over the ranking, positive.
  double spread() const { return spread_; }

 private:
  struct Run {
    std::vector<size_t> points;
    std::vector<double> targets;
    std::vector<double> opinion;        // of every point; NaN: not asked yet
    std::unique_ptr<ExtraTrees> trees;  // grown when they are first asked
  };
  double opinion(Run& run, size_t point);
  void rank();

  const Features* features_;
  std::vector<Run> runs_;
  std::vector<size_t> ranking_;
  double spread_ = 1;
};

}  // namespace mlx_kd::search
