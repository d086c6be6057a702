// The end of a run: finals, winners, files.
#pragma once

#include "mlx_kd/archive/run/run_writer.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/discover/run.h"

namespace mlx_kd::discover {

struct Finals {
  const spec::Op* op;
  const devices::Device* device;
  evaluate::Evaluator* evaluator;
  archive::RunWriter* writer;
  Listener* listener;
  const Interrupt* interrupt;
  uint64_t count;  // finalists a size
  shapes::DimRanges ranges;
  std::vector<std::string> remarks;
  int64_t start_ns;                          // of the run
  std::vector<std::vector<uint64_t>> tours;  // Finish::tours
};

// Re-measures the finalists of each size, chooses the winners, writes the finish record,
// best_kernels.json (none where nothing won) and the reports. Where the log ends with the claims of
// the same finalists nothing is measured, and the files get the same bytes. An interrupted run
// writes its reports only.
RunOutcome finish_run(const Finals& finals, const std::vector<spec::Dims>& sizes,
                      const std::vector<archive::Record>& records);

}  // namespace mlx_kd::discover
