// The graph of a space, one point at a time: nothing is built ahead, so a large space costs nothing
// until a point is asked for.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "mlx_kd/search/space/features.h"

namespace mlx_kd::search {

// All lists leave the point itself out and are in a fixed order.

// Points that differ in one knob, whatever its value: ascending.
std::vector<uint32_t> hamming_neighbors(const Features& features, size_t point);

// Points that differ in one knob by one step (the next value that occurs; a choice: any other
// value): ascending.
std::vector<uint32_t> adjacent_neighbors(const Features& features, size_t point);

// The k nearest by Euclidean distance of the features, nearest first (fewer if the space is
// smaller, or where valid points are so rare that 4,096 places hold fewer).
std::vector<uint32_t> nearest_neighbors(const Features& features, size_t point, size_t k);

// Hamming-1 neighbours and the knn nearest, without repeats, by distance and then number;
// remembered once computed. Not thread-safe.
class Graph {
 public:
  Graph(const Features& features, size_t knn) : features_(&features), knn_(knn) {}
  const std::vector<uint32_t>& moves(size_t point);

 private:
  const Features* features_;
  size_t knn_;
  std::map<size_t, std::vector<uint32_t>> known_;
};

}  // namespace mlx_kd::search
