#include "mlx_kd/search/extra_trees.h"

#include <algorithm>
#include <cmath>

namespace mlx_kd::search {

ExtraTrees::ExtraTrees(const Features& features, const std::vector<size_t>& points,
                       const std::vector<double>& targets, const TreeSettings& settings,
                       uint64_t seed)
    : features_(&features), settings_(settings) {
  for (size_t i = 0; i < points.size(); ++i) rows_.push_back({points[i], targets[i]});
  base::Random random(seed);
  for (size_t tree = 0; tree < settings.trees; ++tree) grow(random);
}

void ExtraTrees::grow(base::Random& random) {
  roots_.push_back(static_cast<uint32_t>(nodes_.size()));
  nodes_.push_back({});
  std::vector<Range> open = {{0, rows_.size(), roots_.back()}};
  while (!open.empty()) {
    const Range range = open.back();
    open.pop_back();
    nodes_[range.node].value = mean_of(range);
    if (pure(range)) continue;
    const Split split = best_split(range, random);
    if (split.gain <= 0) continue;
    const auto middle =
        std::partition(rows_.begin() + static_cast<long>(range.begin),
                       rows_.begin() + static_cast<long>(range.end),
                       [&](const auto& row) { return goes_left(split, row.first); });
    const size_t cut = static_cast<size_t>(middle - rows_.begin());
    const uint32_t left = static_cast<uint32_t>(nodes_.size());
    nodes_[range.node].left = left;
    nodes_[range.node].dim = static_cast<uint16_t>(split.dim);
    nodes_[range.node].level = split.level;
    nodes_[range.node].threshold = split.threshold;
    nodes_.resize(nodes_.size() + 2);
    open.push_back({range.begin, cut, left});
    open.push_back({cut, range.end, left + 1});
  }
}

double ExtraTrees::mean_of(const Range& range) const {
  double sum = 0;
  for (size_t i = range.begin; i < range.end; ++i) sum += rows_[i].second;
  return sum / static_cast<double>(range.end - range.begin);
}

bool ExtraTrees::pure(const Range& range) const {
  for (size_t i = range.begin + 1; i < range.end; ++i)
    if (rows_[i].second != rows_[range.begin].second) return false;
  return true;
}

bool ExtraTrees::goes_left(const Split& split, size_t point) const {
  const uint8_t level = features_->level(point, split.dim);
  if (!features_->ordered(split.dim)) return level == split.level;
  return features_->position(split.dim, level) <= split.threshold;
}

// Gain 0 and an empty side if the dimension does not vary in the range.
ExtraTrees::Split ExtraTrees::random_split(const Range& range, base::Random& random) const {
  Split split;
  split.dim = random.below(features_->dims());
  if (!features_->ordered(split.dim)) {
    const size_t row = range.begin + random.below(range.end - range.begin);
    split.level = features_->level(rows_[row].first, split.dim);
    return split;
  }
  double low = HUGE_VAL, high = -HUGE_VAL;
  for (size_t i = range.begin; i < range.end; ++i) {
    const double x = features_->position(split.dim, features_->level(rows_[i].first, split.dim));
    low = std::min(low, x);
    high = std::max(high, x);
  }
  split.threshold = low + (high - low) * random.uniform();
  return split;
}

// Fall of the squared error, 0 if a side is empty.
double ExtraTrees::gain_of(const Split& split, const Range& range) const {
  double left = 0, all = 0;
  size_t count = 0;
  for (size_t i = range.begin; i < range.end; ++i) {
    all += rows_[i].second;
    if (!goes_left(split, rows_[i].first)) continue;
    left += rows_[i].second;
    ++count;
  }
  const double total = static_cast<double>(range.end - range.begin);
  const double here = static_cast<double>(count), there = total - here;
  if (here == 0 || there == 0) return -1;
  const double right = all - left;
  return std::max(left * left / here + right * right / there - all * all / total, 1e-300);
}

ExtraTrees::Split ExtraTrees::best_split(const Range& range, base::Random& random) const {
  Split best;
  if (features_->dims() == 0) return best;
  size_t found = 0;
  for (size_t i = 0; i < 3 * settings_.tried && found < settings_.tried; ++i) {
    Split split = random_split(range, random);
    split.gain = gain_of(split, range);
    found += split.gain > 0;
    if (split.gain > best.gain) best = split;
  }
  return best;
}

ExtraTrees::Spread ExtraTrees::predict(size_t point) const {
  double sum = 0, squares = 0;
  for (uint32_t node : roots_) {
    while (nodes_[node].left != 0) {
      const Node& n = nodes_[node];
      node = n.left + !goes_left({0, n.dim, n.level, n.threshold}, point);
    }
    sum += nodes_[node].value;
    squares += nodes_[node].value * nodes_[node].value;
  }
  const double count = static_cast<double>(roots_.size()), mean = sum / count;
  return {mean, std::sqrt(std::max(0.0, squares / count - mean * mean))};
}

}  // namespace mlx_kd::search
