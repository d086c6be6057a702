// How Points come about: a depth-first walk that drops a branch as soon as a constraint fails, or
// random draws where the walk would be too long.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "mlx_kd/base/random.h"
#include "mlx_kd/search/space/points.h"

namespace mlx_kd::search {

// A constraint with its knobs as numbers.
struct Rule {
  const spec::Constraint* constraint;
  std::vector<size_t> knobs;
  double removed = 0;  // points it ruled out (walk), or draws (sampler)
};

// The rules of a space. Misuse if the space is not sound (see Points::enumerate).
std::vector<Rule> rules_of(const spec::Space& space);

// Visits the valid points of a space in mixed-radix order and keeps all of them, or a uniform
// sample once there are more than max_points (reservoir sampling: Vitter 1985, ACM TOMS 11(1),
// algorithm R).
class Walk {
 public:
  Walk(const spec::Space& space, std::vector<Rule>& rules, const EnumerateOptions& options);
  // False if it took more than max_steps values and gave up.
  bool run(uint64_t max_steps);
  std::vector<uint8_t> take_rows() { return std::move(rows_); }
  uint64_t valid() const { return valid_; }

 private:
  bool descend(size_t knob);
  bool holds(size_t knob);
  void keep();

  const spec::Space& space_;
  std::array<std::vector<Rule*>, 16> due_;  // rules whose last knob this is
  std::array<double, 17> below_{};          // raw points under one value of a knob
  std::array<int64_t, 16> values_{};
  std::array<uint8_t, 16> indices_{};
  std::vector<uint8_t> rows_;
  uint64_t max_points_, valid_ = 0, steps_left_ = 0;
  base::Random random_;
};

// Draws valid points independently and uniformly. Knobs that no chain of constraints connects are
// drawn apart, so that a rare group does not spoil the luck of the others.
class Sampler {
 public:
  Sampler(const spec::Space& space, std::vector<Rule>& rules, uint64_t seed);
  // Up to `count` points (rows of value indices, with repeats), fewer after max_draws draws.
  std::vector<uint8_t> draw(uint64_t count, uint64_t max_draws);
  // Share of valid points among raw ones, as far as `draws` draws tell.
  double valid_share(uint64_t draws);

 private:
  struct Group {
    std::vector<size_t> knobs;
    std::vector<Rule*> rules;
  };
  bool draw_group(const Group& group);

  const spec::Space& space_;
  std::vector<Group> groups_;
  std::array<int64_t, 16> values_{};
  std::array<uint8_t, 16> indices_{};
  base::Random random_;
};

}  // namespace mlx_kd::search
