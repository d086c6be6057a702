#include "mlx_kd/search/space/neighbors.h"

#include <algorithm>
#include <array>
#include <queue>
#include <utility>

namespace mlx_kd::search {
namespace {

constexpr size_t kMaxPlaces = 4096;

std::vector<uint8_t> row_of(const Points& points, size_t point) {
  return {points.row(point), points.row(point) + points.knobs()};
}

// Places of the value lattice round a point, nearest first, each once: place r takes in dimension
// j the r[j]-th nearest value. Its parent has the last non-zero rank one lower, so no place is
// reached twice and no distance falls from parent to child.
class Places {
 public:
  Places(const Features& features, size_t point)
      : features_(features), row_(row_of(features.points(), point)) {
    for (size_t dim = 0; dim < features.dims(); ++dim) {
      order_.push_back(by_distance(dim));
      std::vector<double>& squared = squared_.emplace_back();
      for (const uint8_t level : order_[dim]) {
        const double d = features.distance(dim, order_[dim][0], level);
        squared.push_back(d * d);
      }
    }
    push({});
  }
  // The next place's point, or points().size() if it is not valid; false at the end.
  bool next(size_t& point) {
    if (heap_.empty()) return false;
    const Place place = heap_.top();
    heap_.pop();
    for (size_t dim = place.last; dim < order_.size(); ++dim) expand(place, dim);
    std::vector<uint8_t> row = row_;
    for (size_t dim = 0; dim < order_.size(); ++dim)
      row[features_.knob(dim)] = order_[dim][place.rank[dim]];
    point = features_.points().find(row);
    return true;
  }

 private:
  struct Place {
    double squared = 0;
    size_t last = 0;  // dimension of the last non-zero rank
    std::array<uint8_t, 16> rank{};
    bool operator<(const Place& other) const {  // the heap's top is the nearest
      return squared != other.squared ? squared > other.squared : rank > other.rank;
    }
  };

  std::vector<uint8_t> by_distance(size_t dim) const {
    const uint8_t here = row_[features_.knob(dim)];
    std::vector<uint8_t> levels = features_.levels(dim);
    std::stable_sort(levels.begin(), levels.end(), [&](uint8_t a, uint8_t b) {
      return features_.distance(dim, here, a) < features_.distance(dim, here, b);
    });
    std::stable_partition(levels.begin(), levels.end(),
                          [&](uint8_t level) { return level == here; });
    return levels;
  }

  void expand(const Place& parent, size_t dim) {
    Place child = parent;
    if (++child.rank[dim] >= order_[dim].size()) return;
    child.last = dim;
    push(child);
  }

  void push(Place place) {
    place.squared = 0;
    for (size_t dim = 0; dim < order_.size(); ++dim)
      place.squared += squared_[dim][place.rank[dim]];
    heap_.push(place);
  }

  const Features& features_;
  std::vector<uint8_t> row_;
  std::vector<std::vector<uint8_t>> order_;   // levels, nearest first
  std::vector<std::vector<double>> squared_;  // the distance to each of them, squared
  std::priority_queue<Place> heap_;
};

template <class Levels>
void add_moves(const Features& features, size_t point, size_t dim, const Levels& levels,
               std::vector<uint32_t>& found) {
  std::vector<uint8_t> row = row_of(features.points(), point);
  const uint8_t here = row[features.knob(dim)];
  for (uint8_t level : levels) {
    row[features.knob(dim)] = level;
    const size_t other = level == here ? features.points().size() : features.points().find(row);
    if (other < features.points().size()) found.push_back(static_cast<uint32_t>(other));
  }
}

std::vector<uint8_t> one_step(const Features& features, size_t point, size_t dim) {
  const std::vector<uint8_t>& levels = features.levels(dim);
  if (!features.ordered(dim)) return levels;
  const auto here = std::find(levels.begin(), levels.end(), features.level(point, dim));
  std::vector<uint8_t> steps;
  if (here != levels.begin()) steps.push_back(*(here - 1));
  if (here + 1 != levels.end()) steps.push_back(*(here + 1));
  return steps;
}

}  // namespace

std::vector<uint32_t> hamming_neighbors(const Features& features, size_t point) {
  std::vector<uint32_t> found;
  for (size_t dim = 0; dim < features.dims(); ++dim)
    add_moves(features, point, dim, features.levels(dim), found);
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<uint32_t> adjacent_neighbors(const Features& features, size_t point) {
  std::vector<uint32_t> found;
  for (size_t dim = 0; dim < features.dims(); ++dim)
    add_moves(features, point, dim, one_step(features, point, dim), found);
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<uint32_t> nearest_neighbors(const Features& features, size_t point, size_t k) {
  std::vector<uint32_t> found;
  Places places(features, point);
  size_t other = 0;
  for (size_t place = 0; place < kMaxPlaces && found.size() < k && places.next(other); ++place)
    if (other < features.points().size() && other != point)
      found.push_back(static_cast<uint32_t>(other));
  return found;
}

const std::vector<uint32_t>& Graph::moves(size_t point) {
  const auto known = known_.find(point);
  if (known != known_.end()) return known->second;
  std::vector<std::pair<double, uint32_t>> by_distance;
  for (uint32_t other : hamming_neighbors(*features_, point)) by_distance.push_back({0, other});
  for (uint32_t other : nearest_neighbors(*features_, point, knn_))
    by_distance.push_back({0, other});
  for (auto& [distance, other] : by_distance) distance = features_->squared_distance(point, other);
  std::sort(by_distance.begin(), by_distance.end());
  by_distance.erase(std::unique(by_distance.begin(), by_distance.end()), by_distance.end());
  std::vector<uint32_t>& moves = known_[point];
  for (const auto& [distance, other] : by_distance) moves.push_back(other);
  return moves;
}

}  // namespace mlx_kd::search
