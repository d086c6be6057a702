// Strategies at work on a space where everything was measured.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mlx_kd/search/strategy.h"

namespace mlx_kd::search {

// Every point of a space, measured.
struct Recording {
  std::string name;
  Points points;
  std::vector<double> values;  // time of each point, any unit; NaN if it failed
  std::vector<double> costs;   // what evaluating it took, one unit for all
};

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

}  // namespace mlx_kd::search
