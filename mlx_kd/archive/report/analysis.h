// What the records of a run say, before any of it is formatted.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "mlx_kd/archive/run/run_data.h"

namespace mlx_kd::archive {

// One size: who won it, by how much, and who else was measured. Pointers go into the RunData.
struct SizeResult {
  spec::Dims dims;
  std::vector<const Record*> ranked;  // measured on this size, best first by the one order
  const Record* best = nullptr;       // the winner; without one the best so far; null: none
  const Claim* claim = nullptr;       // the re-measurement of `best` (or of a finalist that failed)
  bool won = false;                   // a winner was chosen and its claim holds
  std::string why_not;                // where it was not
  spec::Metrics metrics;              // of the claim where there is one, else of the search
};

// Whether nothing was timed, as on the device null, and what a report then says of its times.
bool times_are_invented(const RunMeta& meta);
inline constexpr const char* kInventedTimes =
    "Nothing was timed: times and speed-ups come from a formula and say nothing about any machine. "
    "Such winners are never installed.";

// The metrics of a record on a size; null if it has none.
const spec::Metrics* metrics_on(const Record& record, const spec::Dims& dims);

std::vector<SizeResult> size_results(const RunData& run);

// What the search minimised: the objective (mean log ratio to the first candidate) where every
// measured record has one, else the mean log of the time. NaN for a failure.
std::vector<double> scores(const RunData& run);

// The lowest score after each record (NaN until one was measured).
std::vector<double> best_so_far(const std::vector<double>& scores);

// Time against error over all sizes, for the measured records.
struct ErrorPoint {
  size_t record;  // index into RunData::records
  double time_us, error;
  bool on_frontier;  // no other is both faster and closer
};
struct ErrorPlane {
  std::vector<ErrorPoint> points;  // by time
  bool of_bound = false;  // error is the used share of the op's bound; else the largest error
};
ErrorPlane error_plane(const RunData& run);

// What to say where the errors tell nothing apart (all within 1 % of each other); else nothing.
std::string error_remark(const ErrorPlane& plane);

struct FailureKind {
  spec::Status status;
  size_t count = 0;
  std::vector<std::pair<std::string, std::string>> examples;  // id, reason; at most three reasons
};
std::vector<FailureKind> failures(const RunData& run);  // the most frequent first

// What the run says of ranges, a line each: "rows 1 to 512 (D=2048,rows=12): rmsnorm_..., faster
// than MLX at 1, 3, 12, ..."; the size in brackets is that of the entry. Empty unless asked for.
std::vector<std::string> range_lines(const RunData& run);

// Of all records, those that a digest left out among them.
uint64_t evaluated(const RunData& run);
// Which of the run's evaluations each record is, from 1.
std::vector<double> steps_of(const RunData& run);

// Sentences that the run has for a reader of its times.
std::vector<std::string> remarks(const RunData& run);

// What a run ran on. Reports tell the target's parts next to it, from RunMeta::target.
base::Json runtime_without_target(const RunMeta& meta);

// Seconds by stage, longest first, "own" (the engine itself) last where the wall time is known.
std::vector<std::pair<std::string, double>> time_spent(const RunData& run);

}  // namespace mlx_kd::archive
