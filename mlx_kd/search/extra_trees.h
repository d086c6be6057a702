// Extremely randomised trees: what the search believes once it has seen many points (Geurts, Ernst,
// Wehenkel 2006, Machine Learning 63(1), section 2).
#pragma once

#include <cstdint>
#include <vector>

#include "mlx_kd/base/random.h"
#include "mlx_kd/search/features.h"

namespace mlx_kd::search {

struct TreeSettings {
  size_t trees = 16;
  size_t tried = 5;  // random splits tried a node; the one that explains most is taken
};

// Leaves hold one point, or points with equal targets; no bootstrap. Ordered dimensions are split
// at a random position, choices into one value and the others.
class ExtraTrees {
 public:
  ExtraTrees(const Features& features, const std::vector<size_t>& points,
             const std::vector<double>& targets, const TreeSettings& settings, uint64_t seed);

  struct Spread {
    double mean, sd;  // over the trees
  };
  Spread predict(size_t point) const;

 private:
  struct Node {
    double value;       // mean of the targets below; the prediction of a leaf
    uint32_t left = 0;  // its right sibling follows; 0: a leaf
    uint16_t dim = 0;
    uint8_t level = 0;  // of a choice
    double threshold = 0;
  };
  struct Split {
    double gain = 0;
    size_t dim = 0;
    uint8_t level = 0;
    double threshold = 0;
  };
  struct Range {
    size_t begin, end;
    uint32_t node;
  };
  bool goes_left(const Split& split, size_t point) const;
  Split random_split(const Range& range, base::Random& random) const;
  double gain_of(const Split& split, const Range& range) const;
  Split best_split(const Range& range, base::Random& random) const;
  double mean_of(const Range& range) const;
  bool pure(const Range& range) const;
  void grow(base::Random& random);

  const Features* features_;
  TreeSettings settings_;
  std::vector<std::pair<size_t, double>> rows_;  // point, target; permuted while growing
  std::vector<Node> nodes_;
  std::vector<uint32_t> roots_;
};

}  // namespace mlx_kd::search
