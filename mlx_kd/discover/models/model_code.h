// A module of the Python package that runs a model's code, as a process of its own.
#pragma once

#include <atomic>
#include <string>

#include "mlx_kd/base/json.h"

namespace mlx_kd::discover {

// Runs mlx_kd.MODULE.main(REQUEST) in `python`, for at most `longest_s` seconds. Empty where it
// returned 0, else why not, in words. Never throws for what the process does.
std::string run_model_code(const std::string& python, const std::string& module,
                           const base::Json& request, double longest_s,
                           const std::atomic<bool>* cancelled);

}  // namespace mlx_kd::discover
