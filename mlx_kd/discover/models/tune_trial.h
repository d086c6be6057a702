// Winners of searches inside the code of their model, in turn with the default kernels: a kernel
// that is faster alone may be slower where others have just used the caches and the memory. What is
// not faster there gives way to the default kernel.
//
// Packs take turns, sample by sample, in one process that runs the model with few layers and random
// weights (python/mlx_kd/model_trial.py): in each pass of the model that of default kernels, that
// with the winners of all uses, and in the first step of decoding and the prompt those with one
// winner each. A second trial, with new samples, confirms the pack of the winners that were faster,
// also next to what mlx_kd.patch runs without a pack: where it is slower than default kernels in
// the median, or surely so in the other steps, none of the winners stays; where it is surely slower
// than no pack, no use of the pass has a pin.
#pragma once

#include <atomic>
#include <optional>
#include <string>

#include "mlx_kd/discover/models/trial_result.h"
#include "mlx_kd/discover/models/tune_winners.h"

namespace mlx_kd::discover {

struct TrialRequest {
  std::string python;  // has this package and mlx-lm
  base::Json config;
  PassSizes sizes;
  spec::Dtype dtype;
  uint64_t seed = 0;
  double seconds = 0;  // of samples, about: each pass has a least number of rounds
  const std::atomic<bool>* cancelled = nullptr;
};

// nullopt where it was cancelled. Never throws for what the model's code does: why_not says it.
std::optional<ModelTrial> run_model_trial(const TrialRequest& request, const TuneWinners& winners);

}  // namespace mlx_kd::discover
