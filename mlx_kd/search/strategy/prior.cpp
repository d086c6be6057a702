#include "mlx_kd/search/strategy/prior.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace mlx_kd::search {
namespace {

constexpr uint64_t kTreeSeed = 1;

bool is_valid(const Observation& seen) {
  return !seen.failed && std::isfinite(seen.value);
}

}  // namespace

void Prior::add(const std::vector<Observation>& observations) {
  std::vector<double> valid;
  for (const Observation& seen : observations)
    if (is_valid(seen)) valid.push_back(seen.value);
  std::sort(valid.begin(), valid.end());
  if (valid.size() < 2 || valid.front() == valid[valid.size() / 2]) return;
  const double median = valid[valid.size() / 2];
  Run run;
  run.opinion.assign(features_->points().size(), std::nan(""));
  for (const Observation& seen : observations) {
    run.points.push_back(seen.point);
    run.targets.push_back(is_valid(seen) ? std::min(seen.value - median, 0.0) : 0.0);
    run.opinion[seen.point] = run.targets.back();
  }
  runs_.push_back(std::move(run));
  rank();
}

double Prior::opinion(Run& run, size_t point) {
  double& opinion = run.opinion[point];
  if (!std::isnan(opinion)) return opinion;
  if (!run.trees)
    run.trees = std::make_unique<ExtraTrees>(*features_, run.points, run.targets, TreeSettings{},
                                             kTreeSeed);
  return opinion = run.trees->predict(point).mean;
}

std::vector<double> Prior::opinions(size_t point) {
  std::vector<double> opinions;
  for (Run& run : runs_) opinions.push_back(opinion(run, point));
  return opinions;
}

double Prior::mean_opinion(size_t point) {
  double sum = 0;
  for (Run& run : runs_) sum += opinion(run, point);
  return sum / static_cast<double>(runs_.size());
}

void Prior::rank() {
  std::vector<size_t> points;
  for (const Run& run : runs_) points.insert(points.end(), run.points.begin(), run.points.end());
  std::sort(points.begin(), points.end());
  points.erase(std::unique(points.begin(), points.end()), points.end());
  std::vector<std::pair<double, size_t>> sorted;
  double sum = 0, squares = 0;
  for (size_t point : points) {
    const double opinion = mean_opinion(point);
    sorted.push_back({opinion, point});
    sum += opinion;
    squares += opinion * opinion;
  }
  std::sort(sorted.begin(), sorted.end());
  ranking_.clear();
  for (const auto& [opinion, point] : sorted) ranking_.push_back(point);
  const double count = static_cast<double>(points.size()), mean = sum / count;
  spread_ = std::sqrt(std::max(squares / count - mean * mean, 0.0)) + 1e-12;
}

}  // namespace mlx_kd::search
