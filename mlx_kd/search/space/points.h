// The valid points of a space, enumerated constraints first.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "mlx_kd/spec/space.h"

namespace mlx_kd::search {

struct EnumerateOptions {
  uint64_t max_points = 1 << 20;  // more valid points than that: a sample without bias
  uint64_t seed = 0;              // of that sample
};

// Immutable. Points are numbered in mixed-radix order of the knobs' value indices. A point takes as
// many bytes as the space has knobs (at most 16).
class Points {
 public:
  using Indices = std::vector<uint8_t>;  // a value index a knob

  // Misuse (room search) if a constraint names an unknown knob, a knob has no value or more than
  // 256, or nothing is valid (the message names the constraint that removed the most).
  // A space whose valid points are too many to visit (about 2e8 steps) is sampled: each valid point
  // is equally likely to be among the max_points (or fewer, where valid ones are rare).
  static Points enumerate(const spec::Space& space, const EnumerateOptions& options = {});

  // Exactly the listed points, in whatever order and once each however often they are listed; the
  // constraints of the space are not asked. Misuse if there is none or an index is out of range.
  static Points listed(const spec::Space& space, const std::vector<Indices>& points);

  const spec::Space& space() const { return space_; }
  size_t size() const { return size_; }
  bool sampled() const { return sampled_; }      // true: not all valid points are here
  double raw_size() const { return raw_size_; }  // product of the knobs' numbers of values

  size_t knobs() const { return stride_; }
  const uint8_t* row(size_t point) const { return indices_.data() + point * stride_; }
  uint8_t value_index(size_t point, size_t knob) const { return indices_[point * stride_ + knob]; }
  spec::Setting setting(size_t point) const;
  // The point with these value indices, or size() if it is not among them.
  size_t find(const uint8_t* indices) const;
  size_t find(const Indices& indices) const;
  size_t find(const spec::Setting& setting) const;

 private:
  explicit Points(const spec::Space& space);
  void adopt(std::vector<uint8_t> rows, bool sampled);  // sorts them, drops repeated ones

  spec::Space space_;
  std::vector<uint8_t> indices_;
  size_t size_ = 0, stride_ = 0;
  bool sampled_ = false;
  double raw_size_ = 1;
};

}  // namespace mlx_kd::search
