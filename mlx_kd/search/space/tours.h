// Hamiltonian tours: orders in which every valid point comes once.
//
// Short tours are reflected mixed-radix Gray orders of the space, each with the knobs nested in
// another random order: consecutive stops differ little, whatever the constraints cut out. A long
// tour takes every g-th stop of a short one, g coprime to the number of points and near an
// irrational share of it: consecutive stops lie far apart, any run of them is well spaced, and a
// lap still visits every point once. Sorting a large space into Gray orders costs more than a small
// budget deserves, so there the long tours take every g-th point in the points' own order instead.
#pragma once

#include <cstdint>
#include <vector>

#include "mlx_kd/search/space/features.h"

namespace mlx_kd::search {

// A Gray order is built when it is first asked for (10^6 points: about 30 ms and 14 MB while
// sorting, 4 MB kept). Not thread-safe.
class Tours {
 public:
  // Long tours go over the Gray orders up to sort_limit points.
  Tours(const Features& features, size_t count, uint64_t seed, size_t sort_limit = 1 << 15);

  size_t count() const { return tours_.size(); }
  size_t size() const { return features_->points().size(); }
  // The point at `position` (taken modulo size) of short tour `tour`.
  size_t short_stop(size_t tour, uint64_t position) { return built(tour)[position % size()]; }
  // Where in the order that the long tour goes over its stop `step` lies; the start is random.
  uint64_t long_position(size_t tour, uint64_t step) const;
  size_t long_stop(size_t tour, uint64_t step);

 private:
  struct Tour {
    std::vector<size_t> nesting;  // dimensions, outermost first
    uint64_t start, stride;
    std::vector<uint32_t> order;  // empty until asked for
  };
  std::vector<uint8_t> digits_of(const Tour& tour) const;
  const std::vector<uint32_t>& built(size_t tour);

  const Features* features_;
  bool strides_over_gray_;
  std::vector<Tour> tours_;
};

}  // namespace mlx_kd::search
