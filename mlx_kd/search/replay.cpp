#include "mlx_kd/search/replay.h"

#include <algorithm>
#include <cmath>

#include "mlx_kd/search/fixed_math.h"

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

}  // namespace mlx_kd::search
