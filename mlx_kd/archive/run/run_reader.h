// Reads a run directory of mlx-kd or zmlx.kd. The formats: run_writer.h.
#pragma once

#include <filesystem>

#include "mlx_kd/archive/run/run_data.h"

namespace mlx_kd::archive {

// The run in `dir`, finished, broken off or still in progress; nothing on disk is changed. A last
// line that is cut is left out (RunData::cut). Misuse if dir is not a run directory, or a line
// other than the last is not a record (named by file and line). Records of zmlx.kd are read.
RunData read_run(const std::filesystem::path& dir);

// The same for a report. Of a run of more than `most` records, those that a report names are read
// whole: the best ten of each size, each that was the best so far, winners and finalists, some
// failures of each kind; and every n-th, about `most` in all. The others are counted in left_out:
// they are looked at (brief.h), so that damage in them may not be noticed.
RunData read_run_digest(const std::filesystem::path& dir, uint64_t most = 3000);

// Whether dir holds a run_meta.json.
bool is_run_dir(const std::filesystem::path& dir);

}  // namespace mlx_kd::archive
