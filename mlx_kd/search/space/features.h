// Where points lie relative to one another: features of the knobs, none of them a measured value.
#pragma once

#include <cstdint>
#include <vector>

#include "mlx_kd/search/space/points.h"

namespace mlx_kd::search {

// Immutable; refers to the points, which must outlive it. A dimension is a knob that takes more
// than one value among the points. Positions lie in [0, 1]: the value, or its logarithm for knobs
// of scale log2 (0 lies one doubling below the least positive value; a knob with a negative value
// counts as linear). The values of a choice are all 1 apart, as scaled one-hot features would be.
//
// Columns are what surrogates see: the dimensions, and after them the alignments. A dimension of at
// least four sizes that are not all powers of two has one: how often 2 divides the value (5 at
// most), for hardware works in warps, vectors and banks, and 96 threads resemble 64 more than 80.
class Features {
 public:
  explicit Features(const Points& points);

  const Points& points() const { return *points_; }
  size_t dims() const { return dim_count_; }
  size_t columns() const { return dims_.size(); }  // all functions of a dim take columns too
  size_t knob(size_t dim) const { return dims_[dim].knob; }
  bool ordered(size_t dim) const { return dims_[dim].ordered; }
  size_t values(size_t dim) const { return dims_[dim].position.size(); }  // of the knob, in all
  uint8_t level(size_t point, size_t dim) const {
    return points_->value_index(point, dims_[dim].knob);
  }
  // In [0, 1] for the values that occur; of an ordered dimension.
  double position(size_t dim, size_t level) const { return dims_[dim].position[level]; }
  double distance(size_t dim, size_t level_a, size_t level_b) const;
  double squared_distance(size_t point_a, size_t point_b) const;  // Euclidean
  // The levels that occur, by position (a choice: by number).
  const std::vector<uint8_t>& levels(size_t dim) const { return dims_[dim].levels; }

 private:
  struct Dim {
    size_t knob;
    bool ordered;
    std::vector<double> position;
    std::vector<uint8_t> levels;
  };
  void scale(Dim& dim) const;
  void add_alignments();

  const Points* points_;
  std::vector<Dim> dims_;
  size_t dim_count_ = 0;
};

// A point as numbers in [0, 1], one a dimension (a choice: its value's number over the last one's):
// for records and pictures. Distances are squared_distance's.
std::vector<double> feature_vector(const Features& features, size_t point);

}  // namespace mlx_kd::search
