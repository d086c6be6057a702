// The valid points of a space, enumerated constraints first.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "mlx_kd/spec/space.h"

namespace mlx_kd::search {

struct EnumerateOptions {
  uint64_t max_points = 4'000'000;  // more valid points than that: a sample without bias
  uint64_t seed = 0;                // of that sample
};

// Immutable. Points are numbered in mixed-radix order of the knobs' value indices.
class Points {
 public:
  // Misuse (room search) if a constraint names an unknown knob, a knob has no value, or nothing is
  // valid (the message names the constraint that removed the most).
  static Points enumerate(const spec::Space& space, const EnumerateOptions& options = {});

  const spec::Space& space() const { return space_; }
  size_t size() const { return size_; }
  bool sampled() const { return sampled_; }      // true: not all valid points are here
  double raw_size() const { return raw_size_; }  // product of the knobs' numbers of values

  uint8_t value_index(size_t point, size_t knob) const { return indices_[point * stride_ + knob]; }
  spec::Setting setting(size_t point) const;
  // The point with these value indices, or size() if it is not among them.
  size_t find(const std::vector<uint8_t>& indices) const;
  size_t find(const spec::Setting& setting) const;

 private:
  spec::Space space_;
  std::vector<uint8_t> indices_;
  size_t size_ = 0, stride_ = 0;
  bool sampled_ = false;
  double raw_size_ = 0;
};

}  // namespace mlx_kd::search
