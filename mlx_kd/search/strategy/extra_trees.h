// Extremely randomised trees: what the search believes once it has seen many points (Geurts, Ernst,
// Wehenkel 2006, Machine Learning 63(1), section 2).
#pragma once

#include <cstdint>
#include <vector>

#include "mlx_kd/base/random.h"
#include "mlx_kd/search/space/features.h"

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
  struct Split {
    double gain = 0;  // by how much the squared error falls; not positive: no split
    uint32_t dim = 0;
    double threshold = 0;  // left: at most this position; of a choice: this level
  };
  struct Node {
    double value = 0;   // mean of the targets below; the prediction of a leaf
    uint32_t left = 0;  // its right sibling follows; 0: a leaf
    Split split;
  };
  struct Row {
    double target;
    const double* x;  // into coordinates_
  };
  struct Range {
    size_t begin, end;  // of rows_
    uint32_t node;
  };
  void coordinates_of(size_t point, std::vector<double>& x) const;
  bool goes_left(const Split& split, const double* x) const;
  Split random_split(const Range& range, base::Random& random) const;
  double gain_of(const Split& split, const Range& range, double all) const;
  Split best_split(const Range& range, double all, base::Random& random) const;
  bool pure(const Range& range) const;
  double sum_of(const Range& range) const;
  void grow(base::Random& random);

  const Features* features_;
  TreeSettings settings_;
  std::vector<bool> ordered_;
  std::vector<double> coordinates_;  // (points, columns): position, or the level of a choice
  std::vector<Row> rows_;            // permuted while growing
  std::vector<Node> nodes_;
  std::vector<uint32_t> roots_;
};

}  // namespace mlx_kd::search
