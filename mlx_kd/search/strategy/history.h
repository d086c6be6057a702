// What a walk has seen and asked for so far.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "mlx_kd/base/random.h"
#include "mlx_kd/search/space/tours.h"
#include "mlx_kd/search/strategy/strategy.h"

namespace mlx_kd::search {

inline constexpr double kFailed = std::numeric_limits<double>::infinity();

class History {
 public:
  explicit History(const Points& points) : points_(&points), taken_(points.size()) {}

  const Points& points() const { return *points_; }
  // Observed so far, in order; the value of a failed one is kFailed.
  size_t size() const { return seen_.size(); }
  size_t point(size_t i) const { return seen_[i]; }
  double value(size_t i) const { return values_[i]; }
  // Numbers of observations, best first; failed ones last.
  const std::vector<uint32_t>& ranking() const { return ranking_; }
  size_t valid() const { return valid_; }
  // Least value; kFailed if none is valid.
  double best() const { return valid_ == 0 ? kFailed : values_[ranking_[0]]; }

  // Proposed or observed.
  bool taken(size_t point) const { return taken_[point]; }
  size_t left() const { return points_->size() - taken_count_; }
  // Proposed, not yet observed; in order.
  const std::vector<size_t>& pending() const { return pending_; }
  // Points seen and asked for: what a decision may depend on in addition to their values.
  size_t step() const { return size() + pending_.size(); }

  void propose(size_t point);
  // The stretch `rank` of `ranks` of the tour stays; the other points count as taken.
  void keep_share(Tours& tours, size_t tour, size_t rank, size_t ranks);
  // A value that is not finite counts as failed. Misuse if there is no such point.
  void observe(const Observation& observation);

  // A point not taken, uniform as far as 64 draws find one; left() > 0.
  size_t random_left(base::Random& random) const;

 private:
  void take(size_t point);

  const Points* points_;
  std::vector<size_t> seen_, pending_;
  std::vector<double> values_;
  std::vector<uint32_t> ranking_;
  std::vector<bool> taken_;
  size_t taken_count_ = 0, valid_ = 0;
};

// The random numbers of one decision: a function of the seed, the step and the purpose alone, so
// that a resumed walk draws what the unbroken one would have drawn.
base::Random random_at(uint64_t seed, uint64_t step, uint64_t purpose);

}  // namespace mlx_kd::search
