// What a trial of winners in the code of their model found (tune_trial.h), as tune.json and the
// report keep it.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "mlx_kd/base/json.h"
#include "mlx_kd/spec/verdict.h"

namespace mlx_kd::discover {

// Names of uses for each pass of the model (passes_of).
using UsesByPass = std::vector<std::set<std::string>>;

// How many times as fast a call of the model is with one pack as with another: the median over
// rounds and its 95 % interval; NaN where it was not measured.
struct Gain {
  double ratio = spec::kUnmeasured, lo = spec::kUnmeasured, hi = spec::kUnmeasured;
  uint64_t rounds = 0;
};

// Of times of the same rounds, us.
Gain gain_of(const std::vector<double>& pack, const std::vector<double>& other);

// All over default kernels, unless said.
struct PassTrial {
  std::set<std::string> tried;        // the uses that have a winner
  std::map<std::string, Gain> alone;  // with the winner of one use; empty where that was not tried
  Gain together;                      // with those of all
  std::set<std::string> kept;         // uses whose winners are in the pack
  Gain pack;             // with these, of the second trial; NaN where the first had left none
  Gain over_patch;       // the same over mlx_kd.patch without a pack
  bool has_pins = true;  // false: it is surely slower so, and no use of the pass has a pin
};

// The uses whose winners are worth a second trial: those that are surely faster alone, and where
// all together surely are, those that are not surely slower alone. Where each was not tried alone:
// all of them, if they are not surely slower together.
std::set<std::string> worth_keeping(const PassTrial& trial);

struct ModelTrial {
  std::string winners;            // TuneWinners::text_of_tried: another one needs another trial
  std::string why_not;            // it was not made; then there are no passes
  std::vector<PassTrial> passes;  // as passes_of
  double seconds = 0;
  double of_budget_s = 0;  // the limit of the call that made it

  bool was_made() const { return why_not.empty(); }
  UsesByPass kept() const;
  std::set<size_t> without_pins() const;  // passes
};

base::Json gain_json(const Gain& gain);
base::Json trial_json(const ModelTrial& trial);
// Throws Json::exception where the text is another one.
ModelTrial trial_from(const base::Json& json);

}  // namespace mlx_kd::discover
