// One discovery run, from a request to a directory with winners.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "mlx_kd/discover/interrupt.h"
#include "mlx_kd/discover/listener.h"
#include "mlx_kd/packs/entry.h"
#include "mlx_kd/search/strategy/strategy.h"
#include "mlx_kd/shapes/dim_ranges.h"

namespace mlx_kd::discover {

struct RunRequest {
  std::string op_name;
  std::string device = "cpu";
  spec::Dtype dtype = spec::Dtype::float16;
  std::string suite;                   // empty: the op's first, unless shapes are given
  std::vector<std::string> shapes;     // "rows=1,D=4096" or a JSON file
  std::optional<shapes::Sizes> sizes;  // found already (a model's, a log's): in place of both
  shapes::DimRanges ranges;            // sampled in addition to the sizes; entries may state them
  uint64_t budget = 50;                // evaluations; one is one candidate on all sizes
  double min_gain = 0;  // stop when going on promises less gain (0.01: 1 %); 0: no such limit
  std::vector<std::filesystem::path> warm_start;  // earlier runs of the op, or packs
  double time_budget_s = 0;                       // stop proposing after that; 0: no such limit
  // Before its references, each batch and its claims the run waits while this file was changed
  // within the last second: a program that uses the device touches it. Empty: there is none.
  std::filesystem::path pause_file;
  uint64_t seed = 0;
  std::filesystem::path out;
  bool resume = false;
  bool from_default = false;  // the first candidate is the default kernel, and no strategy's choice
  std::string strategy = "tours";
  search::StrategyOptions strategy_options;
  uint64_t batch = 8;              // candidates compiled together
  int warmup = 0, iters = 0;       // floors under the protocol's own counts
  int claim_processes = 0;         // that a winner is measured in; 0: as the protocol says
  uint64_t finalists = 3;          // a size, re-measured against MLX
  bool allow_approximate = false;  // kernels that trade accuracy on purpose take part too
  // For a device that is not here: EvaluateOptions::null_times and prove_on.
  bool null_times = false;
  std::string prove_on;
  bool sanitize = false;  // every proof once more under compute-sanitizer (cuda)
};

// What a run found for one size.
struct SizeResult {
  spec::Dims dims;
  std::optional<evaluate::Claim>
      claim;  // the winner's; else the nearest attempt; else nothing was benchmarked
  bool won = false;
  std::string knobs;  // of that candidate, "VEC=64,UNROLL=4"
  // Its time goes so often into that of the default kernel, by pairs of the search; nothing where
  // the run did not begin with that kernel (from_default), or it was not correct.
  std::optional<double> over_default;
};

// Sizes that one kernel serves, other dims as in dims.
struct RangeResult {
  spec::Dims dims;  // the size whose entry states the ranges
  std::map<std::string, packs::DimRange> ranges;
  std::string candidate_id;
};

// {shape, candidate_id} and what the entry states: rows_range and rows_sampled, ranges and sampled.
base::Json to_json(const RangeResult& range, const spec::Op& op);

struct RunOutcome {
  bool interrupted = false;  // then there are no sizes; the directory can be resumed
  uint64_t evaluated = 0, benchmarked = 0;
  double seconds = 0;  // wall time of this process
  std::vector<SizeResult> sizes;
  std::vector<RangeResult> ranges;
  std::vector<std::string> remarks;  // sentences on the operator on this device
};

// Misuse before anything is written, where the request makes no sense. Fails (exit 1) where the
// machine does not do what it should (full disk, no compiler); the directory can be resumed then.
RunOutcome run(const RunRequest& request, Listener& listener, Interrupt& interrupt);

}  // namespace mlx_kd::discover
