// The end of a run: finals, winners, what the files say of them.
#pragma once

#include <optional>

#include "mlx_kd/archive/run/run_writer.h"
#include "mlx_kd/discover/run/run.h"
#include "mlx_kd/discover/run/run_setup.h"
#include "mlx_kd/discover/run/search_loop.h"
#include "mlx_kd/packs/pack.h"

namespace mlx_kd::discover {

struct Finals {
  const RunRequest* request;
  const RunSetup* setup;
  const std::vector<archive::Record>* records;  // all, or those that matter
  const std::vector<Visit>* visits;             // of all
  uint64_t benchmarked;
  const archive::RunData* log = nullptr;  // of a run that continues: it may end with claims already
};

struct Conclusion {
  std::optional<archive::Finish> finish;  // nothing where the log has it
  packs::Pack pack;                       // no entries where nothing won
  std::vector<SizeResult> sizes;
  std::vector<RangeResult> ranges;
  std::vector<std::string> remarks;  // what a reader of the times has to know
};

// Re-measures the finalists of each size against MLX and chooses the winners. Where the log ends
// with the claims of the same finalists nothing is measured. Nothing where the run is interrupted.
std::optional<Conclusion> conclude(const Finals& finals, Listener& listener,
                                   const Interrupt& interrupt);

// conclude(), then the finish record, best_kernels.json (none where nothing won) and the reports:
// the same bytes where the log had the claims. An interrupted run writes its reports only.
RunOutcome finish_run(const Finals& finals, archive::RunWriter& writer, Listener& listener,
                      const Interrupt& interrupt);

// What a run says of itself; without a conclusion it was interrupted.
RunOutcome outcome_of(const Finals& finals, const std::optional<Conclusion>& conclusion);

}  // namespace mlx_kd::discover
