#include "mlx_kd/search/replay/score.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/random.h"
#include "mlx_kd/search/replay/curves.h"

namespace mlx_kd::search {
namespace {

constexpr size_t kTimes = 1000;
constexpr double kFirstShare = 0.01, kLastShare = 0.95;

double median_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t count = values.size();
  return 0.5 * (values[(count - 1) / 2] + values[count / 2]);
}

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

std::vector<double> evenly(double first, double last) {
  std::vector<double> values;
  for (size_t i = 0; i < kTimes; ++i)
    values.push_back(first + (last - first) * static_cast<double>(i) / (kTimes - 1));
  return values;
}

}  // namespace

Scorer::Scorer(const Recording& recording) : recording_(&recording) {
  std::vector<double> valid_costs, failed_costs;
  for (size_t i = 0; i < recording.values.size(); ++i) {
    const bool failed = std::isnan(recording.values[i]);
    if (!failed) ascending_.push_back(recording.values[i]);
    (failed ? failed_costs : valid_costs).push_back(recording.costs[i]);
  }
  std::sort(ascending_.begin(), ascending_.end());
  if (ascending_.size() < 2 || median_of(ascending_) <= ascending_.front())
    base::misuse(
        "search",
        "space '" + recording.name + "' has " + std::to_string(ascending_.size()) +
            " valid points, none faster than the median: a score needs two times that differ");
  median_ = median_of(ascending_);
  mean_cost_ = mean_of(valid_costs);
  if (!failed_costs.empty())
    mean_cost_ += mean_of(failed_costs) * static_cast<double>(failed_costs.size()) /
                  static_cast<double>(recording.values.size());
  for (double value : recording.values) {
    const auto at = std::lower_bound(ascending_.begin(), ascending_.end(), value);
    rank_.push_back(std::isnan(value) ? HUGE_VAL : static_cast<double>(at - ascending_.begin()));
  }
  set_times();
  set_base();
}

size_t Scorer::evaluations_for(double share) const {
  const double best = ascending_.front();
  const double target = best + (median_ - best) * (1 - share);
  const size_t count = ascending_.size();
  size_t place = 0;  // from the worst
  while (ascending_[count - 1 - place] > target) ++place;
  if (ascending_[count - 1 - place] == best) --place;
  return static_cast<size_t>(
      std::ceil(static_cast<double>(place) / static_cast<double>(count + 1 - place)));
}

void Scorer::set_times() {
  double first = static_cast<double>(evaluations_for(kFirstShare));
  random_evaluations_ = evaluations_for(kLastShare);
  double last = static_cast<double>(random_evaluations_);
  if (last - first < 2) {
    if (first == 0)
      last += 2;
    else
      ++last, --first;
  }
  const double cost = median_of(recording_->costs);
  start_ = first * cost;
  end_ = last * cost;
  times_ = evenly(start_, end_);
}

void Scorer::set_base() {
  const double count = static_cast<double>(ascending_.size());
  std::vector<double> x, y;
  double first = 0, last = 0;
  for (double time : times_) {
    const double k = std::nearbyint(std::max(time / mean_cost_, 1.0));
    const double place = std::min(count - 1, std::nearbyint(k * (count + 1) / (k + 1)));
    if (x.empty()) first = k;
    last = k;
    if (!x.empty() && k <= x.back()) continue;
    x.push_back(k);
    y.push_back(ascending_[static_cast<size_t>(count - 1 - place)]);
  }
  const auto at_optimum = std::find(y.begin(), y.end(), ascending_.front());
  if (at_optimum != y.end()) {
    const double k = x[static_cast<size_t>(at_optimum - y.begin())];
    too_few_ = "too few points to score (" + std::to_string(ascending_.size()) +
               "): the baseline is at the optimum " +
               (k <= 1    ? "from the first evaluation on"
                : k < 1e6 ? "from evaluation " + std::to_string(static_cast<int>(k)) + " on"
                          : "at the end");
  }
  const MonotoneCubic smooth(x, y);
  for (double k : evenly(first, last)) base_.push_back(smooth(k));
}

std::vector<Scorer::Step> Scorer::steps_of(const Walks& walks) const {
  std::vector<Step> steps;
  for (size_t walk = 0; walk < walks.size(); ++walk) {
    double time = 0, best = HUGE_VAL;
    for (size_t point : walks[walk]) {
      time += recording_->costs[point];
      best = std::min(best, rank_[point]);
      if (time <= budget() && best < HUGE_VAL) steps.push_back({time, best, walk});
    }
  }
  std::stable_sort(steps.begin(), steps.end(),
                   [](const Step& a, const Step& b) { return a.time < b.time; });
  return steps;
}

std::vector<double> Scorer::curve_of(const std::vector<Step>& steps,
                                     const std::vector<double>& weights) const {
  double repeats = 0, total = 0;
  for (double weight : weights) repeats += weight;
  for (const Step& step : steps) total += weights[step.walk];
  const double margin = 0.1 + 0.25 * repeats / std::max(total, 1.0);
  std::vector<WeightedPoint> points;
  for (const Step& step : steps)
    if (weights[step.walk] > 0 && step.time >= start_ * (1 - margin) &&
        step.time <= end_ * (1 + margin))
      points.push_back({step.time, step.rank, weights[step.walk]});
  if (points.empty()) return {};
  const FallingFit fit(points);
  std::vector<double> curve;
  const double last = static_cast<double>(ascending_.size() - 1);
  for (size_t i = 0; i < kTimes; ++i) {
    const double rank = std::clamp(std::nearbyint(fit(times_[i])), 0.0, last);
    const double value = ascending_[static_cast<size_t>(rank)];
    curve.push_back((value - base_[i]) / (ascending_.front() - base_[i]));
  }
  return curve;
}

std::vector<double> Scorer::curve(const Walks& walks) const {
  return curve_of(steps_of(walks), std::vector<double>(walks.size(), 1));
}

double Scorer::score(const Walks& walks) const {
  if (!too_few_.empty()) return NAN;
  const std::vector<double> points = curve(walks);
  return points.empty() ? kNoScore : mean_of(points);
}

std::vector<double> Scorer::resampled(const Walks& walks, size_t count, uint64_t seed) const {
  if (!too_few_.empty()) return std::vector<double>(count, NAN);
  const std::vector<Step> steps = steps_of(walks);
  base::Random random(seed);
  std::vector<double> scores;
  for (size_t sample = 0; sample < count; ++sample) {
    std::vector<double> weights(walks.size());
    for (size_t i = 0; i < walks.size(); ++i) weights[random.below(walks.size())] += 1;
    const std::vector<double> points = curve_of(steps, weights);
    scores.push_back(points.empty() ? kNoScore : mean_of(points));
  }
  return scores;
}

}  // namespace mlx_kd::search
