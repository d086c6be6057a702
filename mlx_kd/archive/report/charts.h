// The charts of report.html, each one <svg> or, where there is nothing to draw, "".
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/archive/report/analysis.h"
#include "mlx_kd/archive/report/knob_effects.h"

namespace mlx_kd::archive {

// Every candidate, and the best so far, against the budget; times relative to the first candidate.
std::string convergence_chart(const RunData& run);

// What the search expected of each evaluation to gain over the best so far, where it said so, in %.
std::string gain_chart(const RunData& run);

// Time against error, with the frontier.
std::string error_chart(const RunData& run);

// The run's candidates in the plane of embed_2d: colour is the time, lines are the tours (where the
// finish record has them) and the walk in the order of evaluation.
std::string tour_chart(const RunData& run);

// One bar per size with its 95 % interval and a line at 1.
std::string speedup_chart(const std::vector<SizeResult>& results);

// One bar per knob: its share of the variance of the score.
std::string knob_chart(const KnobNotes& notes);

// A bar a stage.
std::string time_chart(const RunData& run);

}  // namespace mlx_kd::archive
