// The winners of many runs, also of machines that never met, into one pack or several: what
// `kd pack` does.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/packs/merge/merge.h"

namespace mlx_kd::packs {

// Merges `runs` (run directories, their best_kernels.json, packs), which are read by several
// threads. Misuse as Merger, and if one has no winners.
MergeResult merge_runs(const std::vector<std::string>& runs, const MergeOptions& options = {});

// Every kernel that one of `runs` pins where they disagree, once: the same pin several times, for
// discover::remeasure. Reads the runs again.
Pack contested(const std::vector<std::string>& runs, const MergeResult& merged);

// What a large merge is split by, into packs of one folder.
struct SplitBy {
  bool device = false;  // name and architecture
  bool op = false;
  // "device", "op" or "device,op". Misuse for anything else.
  static SplitBy parse(const std::string& text);
  explicit operator bool() const { return device || op; }
};

// Misuse if `out` cannot be written: it exists and is not a pack, or, for a split, is not a folder.
void check_merge_output(const fs::path& out, SplitBy split = {});

// Writes the pack to `out`, under a lock; with a split to out/DEVICE-OP.json, one pack for each
// device or operator, in which a device is lower-case letters, digits and dashes of its name and
// architecture. Returns the files. Misuse where a pack is too large; nothing is written then.
std::vector<fs::path> write_merged(Pack merged, const fs::path& out, SplitBy split = {});

}  // namespace mlx_kd::packs
