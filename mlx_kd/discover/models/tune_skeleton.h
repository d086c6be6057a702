// What the code of a model calls: run with weights that are never made, and seen by the shape log.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "mlx_kd/discover/models/tune_plan.h"
#include "mlx_kd/shapes/shape_log.h"

namespace mlx_kd::discover {

// Of one step of one token, and of one prompt.
struct CalledSizes {
  std::vector<shapes::LoggedSize> decode, prompt;
  std::string why_not;  // the code could not be run; empty: it was
};

// Starts `python`, which needs this package and mlx-lm, and waits for a minute at most; nothing is
// computed there. Never throws for what the model's code does.
CalledSizes run_skeleton(const std::string& python, const base::Json& config,
                         const PassSizes& sizes, spec::Dtype dtype,
                         const std::atomic<bool>* cancelled = nullptr);

// What was called counts: how often, operators and sizes that the config does not tell ("<op>.code"
// uses), and uses that are not called are left out. `differences` of the uses has a line for each.
// Prompts of an operator over keys are served at the length that is given alone: MLX's time with
// longer ones is beyond any budget.
void take_called(const CalledSizes& called, const PassSizes& sizes, spec::Dtype dtype,
                 ModelUses& uses);

}  // namespace mlx_kd::discover
