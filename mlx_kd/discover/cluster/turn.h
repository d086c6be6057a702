// Ranks of one machine measure in turns: a lock of the machine and the device.
#pragma once

#include <filesystem>
#include <optional>

#include "mlx_kd/base/files.h"
#include "mlx_kd/discover/interrupt.h"
#include "mlx_kd/discover/ranks/ranks.h"
#include "mlx_kd/discover/run/run_setup.h"

namespace mlx_kd::discover {

class Turn {
 public:
  // No lock where nothing is timed, or no other rank is on this machine. GPUs that
  // CUDA_VISIBLE_DEVICES tells apart are devices of their own.
  Turn(const RunSetup& setup, const Ranks& ranks);
  // Waits for it; nothing where there is none to wait for or the run was interrupted meanwhile. Not
  // between a rank's report and the meeting: others would wait for it, and it for them.
  std::optional<base::FileLock> take(const Interrupt& interrupt) const;

 private:
  std::filesystem::path path_;  // empty: no lock
};

}  // namespace mlx_kd::discover
