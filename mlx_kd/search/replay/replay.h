// Strategies at work on a space where everything was measured.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mlx_kd/search/strategy/strategy.h"

namespace mlx_kd::search {

// Every point of a space, measured.
struct Recording {
  std::string name;
  Points points;
  std::vector<double> values;  // time of each point, any unit; NaN if it failed
  std::vector<double> costs;   // what evaluating it took, one unit for all
  // Where a point was measured several times, the single times; empty, or one list per point.
  std::vector<std::vector<double>> runs = {};
};

// The recording as a search sees it that measures each point once: of each point one of its single
// times, drawn by the seed (its value, where it has none).
Recording measured_once(const Recording& recording, uint64_t seed);

// Evaluates what the strategy proposes, `batch` at a time, until the costs reach the budget or the
// space runs out. The points in order.
std::vector<size_t> replay(Strategy& strategy, const Recording& recording, double budget,
                           size_t batch = 1);

// The same for that many evaluations, whatever they cost.
std::vector<size_t> replay_evaluations(Strategy& strategy, const Recording& recording,
                                       uint64_t evaluations, size_t batch = 1);

// By how much the best point of a walk is slower than the best of the recording: 0.03 is 3 %.
// Infinite where the walk found nothing valid; the recording holds a valid value.
double regret(const Recording& recording, const std::vector<size_t>& walk);

// The same of a walk on what `seen` says, measured_once() of the recording: of the `finalists`
// points that looked best to it, measured again until their values are known, the best.
double regret_of_finalists(const Recording& recording, const Recording& seen,
                           const std::vector<size_t>& walk, size_t finalists);

}  // namespace mlx_kd::search
