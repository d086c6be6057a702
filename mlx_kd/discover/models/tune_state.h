// What a tuning has found so far, kept in its folder: tune.json.
#pragma once

#include <optional>

#include "mlx_kd/base/files.h"
#include "mlx_kd/discover/models/trial_result.h"
#include "mlx_kd/discover/models/tune_model.h"
#include "mlx_kd/discover/run/run.h"

namespace mlx_kd::discover {

// A number that was measured; nothing otherwise.
void put_measured(base::Json& json, const char* name, double value);

// A finished run of a use, of its first size.
struct UseRun {
  double mlx_us = spec::kUnmeasured, us = spec::kUnmeasured;
  double speedup_lo = spec::kUnmeasured, speedup_hi = spec::kUnmeasured;
  bool won = false;
  std::string candidate_id, knobs, left;
  uint64_t evaluated = 0;
  double seconds = 0;
};

// A search that was begun: what has to be the same when it continues.
struct SearchPlan {
  std::vector<spec::Dims> sizes;
  shapes::DimRanges ranges;
  uint64_t budget = 0, finalists = 0;
  double of_budget_s = 0;  // the limit of the call that finished it; 0: none has
  std::optional<UseRun> found;
};

// The runs of a use: folders.
inline constexpr const char* kDefaultRun = "default";
inline constexpr const char* kSearchRun = "search";

struct UseState {
  std::optional<UseRun> by_default;
  std::optional<SearchPlan> search;
};

class TuneState {
 public:
  // Takes the folder; see tune_model for what is misuse.
  explicit TuneState(const TuneRequest& request);

  UseState& of(const ModelUse& use) { return uses_[use.name]; }
  const UseState* find(const ModelUse& use) const;
  std::optional<ModelTrial>& trial() { return trial_; }
  const std::optional<ModelTrial>& trial() const { return trial_; }
  double seconds() const;  // of all calls so far
  void save() const;
  std::filesystem::path folder(const ModelUse& use, const char* run) const;

 private:
  void read();
  const TuneRequest* request_;
  base::FileLock lock_;
  base::Json identity_;
  std::map<std::string, UseState> uses_;
  std::optional<ModelTrial> trial_;
  double earlier_s_ = 0;
  int64_t start_ns_;
};

// What a run says of the first of its sizes.
UseRun use_run(const RunOutcome& outcome, double seconds);

}  // namespace mlx_kd::discover
