// The figure of `kd replay --html`.
#pragma once

#include <string>

#include "mlx_kd/cli/replay.h"

namespace mlx_kd::cli {

// One self-contained HTML file, light and dark: a chart a space (what the strategy reached over the
// budget, 0 random search, 1 the optimum), one of their mean, and the table of scores.
std::string replay_page(const ReplayRequest& request, const ReplayScores& scores);

}  // namespace mlx_kd::cli
