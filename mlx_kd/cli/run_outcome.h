// What kd run and kd tune print at their end.
#pragma once

#include <string>

#include "mlx_kd/discover/run/run.h"

namespace mlx_kd::cli {

// The table of sizes, or with `json` the outcome as JSON, on stdout; on stderr what was tried and
// the command that comes next. `out`: the run's folder as the user wrote it.
void print_outcome(const discover::RunRequest& request, const discover::RunOutcome& outcome,
                   const std::string& out, bool json);

}  // namespace mlx_kd::cli
