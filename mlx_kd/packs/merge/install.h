// The winners of a run into a file that programs load: what `kd install` does.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/packs/merge/merge.h"

namespace mlx_kd::packs {

struct Change {
  enum class Kind {
    added,     // the file had no entry of this pin
    replaced,  // the run's entry is better, or the file's is of a user's kernel that has changed
    kept,      // the file's entry is as good or better
  };
  Kind kind;
  Entry entry;  // of the run
  std::string why;
};

std::string name_of(Change::Kind kind);

struct InstallResult {
  std::vector<Change> changes;  // one per entry of the run, in the order of key_before
  size_t foreign = 0;           // entries of the file that the run says nothing about, kept
};

// Merges the winners of `run` (a run directory, or its best_kernels.json) into `file`, which is
// created if absent, under a lock (file + ".lock"): any number of processes may install at once.
// Nothing is written on misuse.
InstallResult install(const fs::path& run, const fs::path& file, const MergeOptions& options = {});

}  // namespace mlx_kd::packs
