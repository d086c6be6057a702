// The lines of run.ndjson, read once. For this room alone.
#pragma once

#include <filesystem>

#include "mlx_kd/archive/run/run_data.h"

namespace mlx_kd::archive {

struct LogText {
  uint64_t whole_bytes = 0;    // length of the lines that were read
  bool needs_newline = false;  // the last of them lacks its end
};

// Reads dir's run.ndjson into run.records, run.finish and run.cut; run.meta is there already. A
// missing file has no records. Misuse, naming the line, as read_run says.
LogText read_log(const std::filesystem::path& dir, RunData& run);

// Reads dir's run_meta.json.
RunMeta read_meta(const std::filesystem::path& dir);

}  // namespace mlx_kd::archive
