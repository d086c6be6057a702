#include "mlx_kd/search/replay/replay.h"

#include <algorithm>
#include <cmath>

#include "mlx_kd/search/space/fixed_math.h"
#include "mlx_kd/search/strategy/history.h"

namespace mlx_kd::search {
namespace {

Observation observation_of(const Recording& recording, size_t point) {
  const double value = recording.values[point];
  const bool failed = std::isnan(value);
  return {point, failed, failed ? 0 : fixed_log(value), recording.costs[point]};
}

void add_least(double value, double& least) {
  if (!std::isnan(value)) least = std::min(least, value);
}

}  // namespace

Recording measured_once(const Recording& recording, uint64_t seed) {
  Recording seen = recording;
  for (size_t point = 0; point < recording.runs.size(); ++point) {
    const std::vector<double>& runs = recording.runs[point];
    if (std::isnan(recording.values[point]) || runs.empty()) continue;
    const double run = runs[random_at(seed, point, 0).below(runs.size())];
    if (run > 0) seen.values[point] = run;
  }
  return seen;
}

std::vector<size_t> replay(Strategy& strategy, const Recording& recording, double budget,
                           size_t batch) {
  std::vector<size_t> walk;
  double spent = 0;
  while (spent < budget) {
    const std::vector<size_t> proposed = strategy.propose(batch);
    if (proposed.empty()) break;
    for (size_t point : proposed) {
      strategy.observe(observation_of(recording, point));
      walk.push_back(point);
      spent += recording.costs[point];
    }
  }
  return walk;
}

std::vector<size_t> replay_evaluations(Strategy& strategy, const Recording& recording,
                                       uint64_t evaluations, size_t batch) {
  std::vector<size_t> walk;
  while (walk.size() < evaluations) {
    const auto proposed = strategy.propose(std::min<uint64_t>(batch, evaluations - walk.size()));
    if (proposed.empty()) break;
    for (size_t point : proposed) {
      strategy.observe(observation_of(recording, point));
      walk.push_back(point);
    }
  }
  return walk;
}

double regret(const Recording& recording, const std::vector<size_t>& walk) {
  double optimum = HUGE_VAL, found = HUGE_VAL;
  for (double value : recording.values) add_least(value, optimum);
  for (size_t point : walk) add_least(recording.values[point], found);
  return found / optimum - 1;
}

double regret_of_finalists(const Recording& recording, const Recording& seen,
                           const std::vector<size_t>& walk, size_t finalists) {
  std::vector<size_t> best;
  for (size_t point : walk)
    if (!std::isnan(seen.values[point])) best.push_back(point);
  std::stable_sort(best.begin(), best.end(),
                   [&](size_t a, size_t b) { return seen.values[a] < seen.values[b]; });
  best.resize(std::min(best.size(), finalists));
  return regret(recording, best);
}

}  // namespace mlx_kd::search
