// The options that kd run and kd tune share, and how both run.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "mlx_kd/cli/verbs.h"
#include "mlx_kd/discover/run/run.h"

namespace mlx_kd::cli {

struct RunOptions {
  discover::RunRequest request;
  std::string dtype, out, bench_mode, time_budget;
  std::string row_range;
  std::vector<std::string> shapes, warm_start, ranges;
  bool json = false, quiet = false;
};

// All but the operator, the type, the device and the sizes.
void add_run_options(CLI::App& verb, RunOptions& options);

// Reads the options into the request, has `prepare` do the rest of it (it may take long, and sees
// Ctrl-C in the flag), runs, and prints the outcome. Throws Exit after Ctrl-C.
void execute_run(RunOptions& options,
                 const std::function<void(const std::atomic<bool>* cancelled)>& prepare);

}  // namespace mlx_kd::cli
