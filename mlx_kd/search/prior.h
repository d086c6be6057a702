// What earlier runs on neighbouring sizes, types or devices said about the points of a space.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "mlx_kd/search/extra_trees.h"
#include "mlx_kd/search/strategy.h"

namespace mlx_kd::search {

// Each run gives every point an opinion: its value less the run's median, at most 0 (failures and
// values above the median are 0). What a run did not observe, its trees guess. Refers to the
// features. Not thread-safe.
class Prior {
 public:
  explicit Prior(const Features& features) : features_(&features) {}

  // Observations of one run, as points of this space. A run with fewer than two valid values, or
  // whose values are all equal, has no opinion and is left out.
  void add(const std::vector<Observation>& run);
  size_t runs() const { return trees_.size(); }
  // One a run, in the order added.
  const std::vector<double>& opinions(size_t point);
  double mean_opinion(size_t point);
  // All points that a run observed, best mean opinion first.
  const std::vector<size_t>& ranking();
  // Standard deviation of the mean opinion over the ranking, positive; runs() > 0.
  double spread();

 private:
  const Features* features_;
  std::vector<std::unique_ptr<ExtraTrees>> trees_;
  std::vector<std::vector<size_t>> observed_;
  std::map<size_t, std::vector<double>> opinions_;
  std::vector<size_t> ranking_;  // empty until asked for
};

}  // namespace mlx_kd::search
