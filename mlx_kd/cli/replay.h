// Replays of strategies on recorded spaces: what `kd replay` does.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "mlx_kd/search/score.h"

namespace mlx_kd::cli {

struct ReplayRequest {
  std::string spaces;  // a file, a run directory, or a folder of them
  std::string strategy = "tours";
  uint64_t repeats = 25, seed = 0;
  uint64_t batch = 1;  // evaluations that the strategy proposes at once
  bool warm = false;   // the other spaces of a space's folder go before it as earlier runs
  std::vector<uint64_t>
      budgets;  // evaluations after which to tell the regret, each in its own walks
};

// How much slower than the best recorded point a walk's best is after `budget` evaluations: 0.03 is
// 3 %. The median over the repeats with its 95 % bootstrap interval; infinite where walks found
// nothing valid.
struct Regret {
  uint64_t budget = 0;
  double median = 0, lo = 0, hi = 0;
};

struct SpaceScore {
  std::string name;
  size_t points = 0, valid = 0;
  double evaluations = 0;  // a strategy may spend, on average
  double score = 0, lo = 0, hi = 0;
  std::vector<double> curve;    // 1,000 equidistant times
  std::vector<Regret> regrets;  // one a budget asked for
};

struct ReplayScores {
  std::vector<SpaceScore> spaces;
  double mean = 0, lo = 0, hi = 0;  // bootstrap over repeats, 95 %
};

// The recorded space in a Kernel Tuner cache or a run directory; named "<folder>/<file>".
search::Recording load_recording(const std::filesystem::path& path);

// The recorded spaces under `place`, by name. Misuse (room cli) if there is none.
std::vector<std::filesystem::path> find_recordings(const std::filesystem::path& place);

// Replays on all cores; the scores depend on the request alone. `done` is called with each space's
// score as it is ready, by one thread at a time. Misuse for an unknown strategy or no repeats.
ReplayScores replay_spaces(const ReplayRequest& request,
                           const std::function<void(const SpaceScore&)>& done);

}  // namespace mlx_kd::cli
