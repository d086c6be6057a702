#include "mlx_kd/search/prior.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace mlx_kd::search {
namespace {

constexpr uint64_t kTreeSeed = 1;

bool is_valid(const Observation& seen) {
  return !seen.failed && std::isfinite(seen.value);
}

}  // namespace

void Prior::add(const std::vector<Observation>& run) {
  std::vector<double> valid;
  for (const Observation& seen : run)
    if (is_valid(seen)) valid.push_back(seen.value);
  std::sort(valid.begin(), valid.end());
  if (valid.size() < 2 || valid.front() == valid[valid.size() / 2]) return;
  const double median = valid[valid.size() / 2];
  std::vector<size_t> points;
  std::vector<double> targets;
  for (const Observation& seen : run) {
    points.push_back(seen.point);
    targets.push_back(is_valid(seen) ? std::min(seen.value - median, 0.0) : 0.0);
  }
  trees_.push_back(
      std::make_unique<ExtraTrees>(*features_, points, targets, TreeSettings{}, kTreeSeed));
  observed_.push_back(std::move(points));
  opinions_.clear();
  ranking_.clear();
}

const std::vector<double>& Prior::opinions(size_t point) {
  std::vector<double>& opinions = opinions_[point];
  if (opinions.empty())
    for (const auto& trees : trees_) opinions.push_back(trees->predict(point).mean);
  return opinions;
}

double Prior::mean_opinion(size_t point) {
  double sum = 0;
  for (double opinion : opinions(point)) sum += opinion;
  return sum / static_cast<double>(std::max<size_t>(1, runs()));
}

const std::vector<size_t>& Prior::ranking() {
  if (!ranking_.empty()) return ranking_;
  std::set<std::pair<double, size_t>> sorted;
  for (const auto& points : observed_)
    for (size_t point : points) sorted.insert({mean_opinion(point), point});
  for (const auto& [opinion, point] : sorted) ranking_.push_back(point);
  return ranking_;
}

double Prior::spread() {
  double sum = 0, squares = 0;
  for (size_t point : ranking()) {
    sum += mean_opinion(point);
    squares += mean_opinion(point) * mean_opinion(point);
  }
  const double count = static_cast<double>(ranking().size()), mean = sum / count;
  return std::sqrt(std::max(squares / count - mean * mean, 0.0)) + 1e-12;
}

}  // namespace mlx_kd::search
