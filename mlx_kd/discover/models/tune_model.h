// All operators that a model calls, tuned within one limit of time: what kd tune-model does.
//
// The folder of a tuning holds
//
//   tune.json              what was asked for, and what was found so far of each use
//   runs/<op>.<suite>/     of each use: default/, a run of the default kernel alone, and search/
//   pack.json              winners, and default kernels
//   report.json, report.html
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "mlx_kd/discover/interrupt.h"
#include "mlx_kd/discover/listener.h"
#include "mlx_kd/discover/models/trial_result.h"
#include "mlx_kd/discover/models/tune_plan.h"

namespace mlx_kd::discover {

struct TuneRequest {
  std::string model;  // as the user named it
  base::Json config;  // the whole config.json: another one is another tuning
  ModelUses uses;
  PassSizes sizes;
  std::string device = "cpu";
  spec::Dtype dtype = spec::Dtype::bfloat16;
  double time_budget_s = 600;  // of all calls with this folder together; > 0
  uint64_t seed = 0;
  bool allow_approximate = false;
  std::string python;  // runs the model's code, for the trial of winners there; empty: none does
  std::filesystem::path out;
};

// Times in us, of a call with the first size; NaN where not measured.
struct UseResult {
  const ModelUse* use;
  double mlx_us = spec::kUnmeasured, default_us = spec::kUnmeasured, us = spec::kUnmeasured;
  double speedup_lo = spec::kUnmeasured, speedup_hi = spec::kUnmeasured;
  bool pinned = false;      // the first size has a winner
  bool searched = false;    // else its default kernel alone was tried
  bool is_default = false;  // no other kernel was faster by enough, or in the model
  Gain in_model;            // of the search's winner over the default kernel, in the model's code
  uint64_t evaluated = 0;
  std::string candidate_id, knobs;
  std::string left;  // why there is no pin; empty: there is one

  // Of a pass, s: all calls.
  double before_s() const;
  double after_s() const;  // MLX's where there is no pin
};

struct TuneOutcome {
  bool interrupted = false;  // the same call continues
  double seconds = 0;        // of this and earlier calls with the folder
  std::vector<UseResult> uses;
  ModelTrial trial;       // or why there was none
  size_t pins = 0;        // entries of the pack
  bool has_pack = false;  // the null device's times make none
};

// First the default kernel of each use, proved, timed and claimed over the range that it is to
// serve, whatever the limit; then searches, each with a part of what is left that is the share of
// its use in the time of a prompt and as many decoded tokens. A size whose claim would take too
// long for its part is left out. At last a tenth of the budget for a trial in the model's code
// (tune_trial.h), which decides which winners are in the pack; without one, those are that were
// kLeastGain times as fast as the default kernel (tune_gains.h). Continues where an earlier call
// stopped; a larger time_budget_s searches further. Misuse where the folder holds something else,
// the tuning of another model or request, or is being written. Fails (exit 1) where a run would
// (discover::run).
TuneOutcome tune_model(const TuneRequest& request, Listener& listener, Interrupt& interrupt);

}  // namespace mlx_kd::discover
