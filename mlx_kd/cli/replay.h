// Replays of strategies on recorded spaces: what `kd replay` does.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "mlx_kd/search/replay/score.h"

namespace mlx_kd::cli {

struct ReplayRequest {
  std::string spaces;  // a file, a run directory, or a folder of them
  std::string strategy = "tours";
  uint64_t repeats = 25, seed = 0;
  uint64_t batch = 1;  // evaluations that the strategy proposes at once
  bool once = false;   // an evaluation shows one of the recorded single times, not their median
  bool warm = false;   // the other spaces of a space's folder go before it as earlier runs
  std::vector<uint64_t>
      budgets;  // evaluations after which to tell the regret, each in its own walks
};

// How much slower than the best recorded point a walk's best is after `budget` evaluations: 0.03 is
// 3 %. The median over the repeats with its 95 % bootstrap interval; infinite where walks found
// nothing valid. Where an evaluation shows a single time: that of the best of the 5 points that
// looked best, as a run measures its finalists again.
struct Regret {
  uint64_t budget = 0;
  double median = 0, lo = 0, hi = 0;
};

struct SpaceScore {
  std::string name;
  size_t points = 0, valid = 0;
  double evaluations = 0;         // a strategy may spend, on average
  size_t random_evaluations = 0;  // that random search needs for 95 % of the way to the optimum
  double score = 0, lo = 0, hi = 0;
  std::vector<double> curve;    // 1,000 equidistant times
  std::vector<Regret> regrets;  // one a budget asked for
  std::string unscored;         // why the scores are NaN
};

struct ReplayScores {
  std::vector<SpaceScore> spaces;
  double mean = 0, lo = 0, hi = 0;  // bootstrap over repeats, 95 %
};

// What must hold of right scores, else none of them can be trusted: no score above 1; random
// search about 0 where it has 100 evaluations or more (the interval reaches [-0.15, 0.15]; asked of
// 25 repeats or more). A line for each space where it does not hold.
struct Sanity {
  std::vector<std::string> above_one, random_off_zero;
  bool random_was_asked = false;
};
Sanity sanity_of(const ReplayRequest& request, const ReplayScores& scores);

// The recorded space in a Kernel Tuner cache or a run directory; named "<folder>/<file>".
search::Recording load_recording(const std::filesystem::path& path);

// The recorded spaces under `place`, by name. Misuse (room cli) if there is none.
std::vector<std::filesystem::path> find_recordings(const std::filesystem::path& place);

// Replays on all cores; the scores depend on the request alone. `done` is called with each space's
// score as it is ready, by one thread at a time. Misuse for an unknown strategy or no repeats.
ReplayScores replay_spaces(const ReplayRequest& request,
                           const std::function<void(const SpaceScore&)>& done);

}  // namespace mlx_kd::cli
