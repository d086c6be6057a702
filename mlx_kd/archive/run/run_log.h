// The lines of run.ndjson, read once. For this room alone.
#pragma once

#include <filesystem>
#include <string>
#include <unordered_set>

#include "mlx_kd/archive/run/brief.h"

namespace mlx_kd::archive {

struct LogText {
  uint64_t whole_bytes = 0;                 // length of the lines that were read
  bool needs_newline = false;               // the last of them lacks its end
  std::unordered_set<std::string> sources;  // hashes of those whose text is in the log
};

// Reads dir's run.ndjson into run.records, run.finish and run.cut; run.meta is there already. A
// missing file has no records. Old records of a long log are handed over and counted in run.older.
// Misuse, naming the line, as read_run says.
LogText read_log(const std::filesystem::path& dir, RunData& run, const OldRecords& old = {});

// Reads dir's run_meta.json.
RunMeta read_meta(const std::filesystem::path& dir);

}  // namespace mlx_kd::archive
