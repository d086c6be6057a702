#include "mlx_kd/search/strategy/extra_trees.h"

#include <algorithm>
#include <cmath>

namespace mlx_kd::search {

ExtraTrees::ExtraTrees(const Features& features, const std::vector<size_t>& points,
                       const std::vector<double>& targets, const TreeSettings& settings,
                       uint64_t seed)
    : features_(&features), settings_(settings) {
  std::vector<double> x;
  for (size_t point : points) {
    coordinates_of(point, x);
    coordinates_.insert(coordinates_.end(), x.begin(), x.end());
  }
  for (size_t dim = 0; dim < x.size(); ++dim) ordered_.push_back(features.ordered(dim));
  for (size_t i = 0; i < points.size(); ++i)
    rows_.push_back({targets[i], coordinates_.data() + i * x.size()});
  base::Random random(seed);
  for (size_t tree = 0; tree < settings.trees; ++tree) grow(random);
}

void ExtraTrees::coordinates_of(size_t point, std::vector<double>& x) const {
  x.clear();
  for (size_t dim = 0; dim < features_->columns(); ++dim) {
    const uint8_t level = features_->level(point, dim);
    x.push_back(features_->ordered(dim) ? features_->position(dim, level) : level);
  }
}

void ExtraTrees::grow(base::Random& random) {
  roots_.push_back(static_cast<uint32_t>(nodes_.size()));
  nodes_.emplace_back();
  std::vector<Range> open = {{0, rows_.size(), roots_.back()}};
  while (!open.empty()) {
    const Range range = open.back();
    open.pop_back();
    const double all = sum_of(range);
    nodes_[range.node].value = all / static_cast<double>(range.end - range.begin);
    if (pure(range)) continue;
    const Split split = best_split(range, all, random);
    if (split.gain <= 0) continue;
    const auto begin = rows_.begin() + static_cast<long>(range.begin);
    const auto end = rows_.begin() + static_cast<long>(range.end);
    const auto middle =
        std::partition(begin, end, [&](const Row& row) { return goes_left(split, row.x); });
    const size_t cut = static_cast<size_t>(middle - rows_.begin());
    const uint32_t left = static_cast<uint32_t>(nodes_.size());
    nodes_[range.node].left = left;
    nodes_[range.node].split = split;
    nodes_.resize(nodes_.size() + 2);
    open.push_back({range.begin, cut, left});
    open.push_back({cut, range.end, left + 1});
  }
}

double ExtraTrees::sum_of(const Range& range) const {
  double sum = 0;
  for (size_t i = range.begin; i < range.end; ++i) sum += rows_[i].target;
  return sum;
}

bool ExtraTrees::pure(const Range& range) const {
  for (size_t i = range.begin + 1; i < range.end; ++i)
    if (rows_[i].target != rows_[range.begin].target) return false;
  return true;
}

bool ExtraTrees::goes_left(const Split& split, const double* x) const {
  return ordered_[split.dim] ? x[split.dim] <= split.threshold : x[split.dim] == split.threshold;
}

ExtraTrees::Split ExtraTrees::random_split(const Range& range, base::Random& random) const {
  Split split;
  split.dim = static_cast<uint32_t>(random.below(ordered_.size()));
  if (!ordered_[split.dim]) {
    split.threshold = rows_[range.begin + random.below(range.end - range.begin)].x[split.dim];
    return split;
  }
  double low = HUGE_VAL, high = -HUGE_VAL;
  for (size_t i = range.begin; i < range.end; ++i) {
    low = std::min(low, rows_[i].x[split.dim]);
    high = std::max(high, rows_[i].x[split.dim]);
  }
  split.threshold = low + (high - low) * random.uniform();
  return split;
}

// Negative if a side is empty.
double ExtraTrees::gain_of(const Split& split, const Range& range, double all) const {
  double left = 0;
  size_t count = 0;
  const bool ordered = ordered_[split.dim];
  for (size_t i = range.begin; i < range.end; ++i) {
    const double x = rows_[i].x[split.dim];
    const bool goes = ordered ? x <= split.threshold : x == split.threshold;
    left += goes ? rows_[i].target : 0;
    count += goes;
  }
  const double total = static_cast<double>(range.end - range.begin);
  const double here = static_cast<double>(count), there = total - here;
  if (here == 0 || there == 0) return -1;
  const double right = all - left;
  return std::max(left * left / here + right * right / there - all * all / total, 1e-300);
}

ExtraTrees::Split ExtraTrees::best_split(const Range& range, double all,
                                         base::Random& random) const {
  Split best;
  if (ordered_.empty()) return best;
  size_t found = 0;
  for (size_t i = 0; i < 3 * settings_.tried && found < settings_.tried; ++i) {
    Split split = random_split(range, random);
    split.gain = gain_of(split, range, all);
    found += split.gain > 0;
    if (split.gain > best.gain) best = split;
  }
  return best;
}

ExtraTrees::Spread ExtraTrees::predict(size_t point) const {
  std::vector<double> x;
  coordinates_of(point, x);
  double sum = 0, squares = 0;
  for (uint32_t node : roots_) {
    while (nodes_[node].left != 0)
      node = nodes_[node].left + !goes_left(nodes_[node].split, x.data());
    sum += nodes_[node].value;
    squares += nodes_[node].value * nodes_[node].value;
  }
  const double count = static_cast<double>(roots_.size()), mean = sum / count;
  return {mean, std::sqrt(std::max(0.0, squares / count - mean * mean))};
}

}  // namespace mlx_kd::search
