#include "mlx_kd/search/strategy/history.h"

#include <algorithm>
#include <cmath>

#include "mlx_kd/base/error.h"

namespace mlx_kd::search {

void History::take(size_t point) {
  if (taken_[point]) return;
  taken_[point] = true;
  ++taken_count_;
}

void History::propose(size_t point) {
  take(point);
  pending_.push_back(point);
}

void History::keep_share(Tours& tours, size_t tour, size_t rank, size_t ranks) {
  const uint64_t size = tours.size(), begin = size * rank / ranks, end = size * (rank + 1) / ranks;
  for (uint64_t step = 0; step < size; ++step)
    if (step < begin || step >= end) take(tours.long_stop(tour, step));
}

void History::observe(const Observation& observation) {
  if (observation.point >= points_->size())
    base::misuse("search", "point " + std::to_string(observation.point) +
                               " was observed in a space of " + std::to_string(points_->size()) +
                               ": observe points of this space");
  take(observation.point);
  std::erase(pending_, observation.point);
  const bool failed = observation.failed || !std::isfinite(observation.value);
  const uint32_t number = static_cast<uint32_t>(size());
  seen_.push_back(observation.point);
  values_.push_back(failed ? kFailed : observation.value);
  valid_ += !failed;
  const auto better = [&](uint32_t a, uint32_t b) { return values_[a] < values_[b]; };
  ranking_.insert(std::upper_bound(ranking_.begin(), ranking_.end(), number, better), number);
}

size_t History::random_left(base::Random& random) const {
  size_t point = 0;
  for (int draw = 0; draw < 64; ++draw) {
    point = random.below(points_->size());
    if (!taken_[point]) return point;
  }
  while (taken_[point]) point = (point + 1) % points_->size();
  return point;
}

base::Random random_at(uint64_t seed, uint64_t step, uint64_t purpose) {
  const uint64_t a = base::Random(seed).next(), b = base::Random(a ^ step).next();
  return base::Random(b ^ purpose);
}

}  // namespace mlx_kd::search
