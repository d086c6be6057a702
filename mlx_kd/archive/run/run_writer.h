// Writes a run directory, so that a run killed at any moment loses at most the record in flight.
//
// A run directory holds
//
//   run_meta.json      one object:
//     schema_version "3", created_at (local ISO time with offset), op_name, seed, budget, dtype,
//     shape_suite, runtime {mlx_version, device_name, device_arch, ...}; in addition to what
//     zmlx.kd writes: sizes ["rows=128,D=2048", ...] (complete, in the suite's order), device
//     (kind), target, protocol (name), protocol_settings, options, mlx_kd_version. Unknown keys are
//     kept.
//   run.ndjson         one object per line, keys sorted, "\n" after each:
//     event "evaluation" (status benchmarked) or "failure" (any other; then `reason` says why), ts,
//     step, seed, op_name, candidate_id, parent_id (or null), status, variant, language, dtype,
//     func_name, source_hash, inputs_spec, outputs_spec, template_params (the knobs),
//     launch_params, features, seconds {compile, prove, time}, notes, metrics: to_json(Metrics)
//     over all sizes, dtype, objective, per_shape [{shape {rows, D}, max_abs_err, max_rel_err and
//     the other keys of Metrics}] (left out where nothing was measured).
//     The source text, `metal_source` for Metal and `source` otherwise, is written once: in the
//     first record that has its source_hash. zmlx.kd writes metal_source every time. Numbers that
//     were not measured are left out; the others read back bit for bit. event "finish", the last
//     line of a finished run: ts, winners [{shape, candidate_id}], claims
//     [{shape, candidate_id, claimed, reason, baseline, metrics}], aa [{shape, ratio, lo, hi,
//     spread}], seconds, tours [[step, ...], ...], notes. A record after it takes it back.
//   best_kernels.json  the winners, a pack (room packs says its format)
//   report.md, report.html  made from the records by report.h, any number of times
//   run.lock           held while a run writes here; it says nothing else
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "mlx_kd/archive/run/brief.h"
#include "mlx_kd/base/files.h"

namespace mlx_kd::archive {

// One process writes a directory at a time; one thread uses a writer.
class RunWriter {
 public:
  // Starts a run in `dir`, which is missing (made, with its parents) or empty. Misuse, with nothing
  // written, if it is a file, cannot be written, holds other files, holds a run (which --resume
  // would go on with), or another process is running in it.
  static RunWriter create(const std::filesystem::path& dir, RunMeta meta);

  // Continues with the run in `dir`; a missing or empty one is started. Misuse if it is not a run
  // directory, another process is running in it, or the run is of another op, seed, dtype, suite,
  // sizes, device, target, protocol, options, MLX or mlx-kd (the message gives both values). The
  // budget may differ: the new one counts. A last line that is cut is taken off the file. Of a long
  // log the old records are handed over.
  static RunWriter resume(const std::filesystem::path& dir, RunMeta meta,
                          const OldRecords& old = {});

  // What the directory held when it was opened, to go on from; meta is what the file says now.
  const RunData& so_far() const { return so_far_; }
  const std::filesystem::path& dir() const { return dir_; }

  // The record is on disk, whole, when this returns. Fails (exit 1) on a full disk; the records
  // before it stay whole.
  void append(Record record);
  void append(Finish finish);
  // The same of many at once, which costs little more than one.
  void append_all(std::vector<Record> records);

  // best_kernels.json, atomically.
  void write_winners(std::string_view text) const;

 private:
  RunWriter(std::filesystem::path dir, base::FileLock lock);
  void start(RunMeta meta);
  void go_on(RunMeta meta, const OldRecords& old);
  std::string line_of(Record record);

  std::filesystem::path dir_;
  base::FileLock lock_;
  RunData so_far_;
  std::unordered_set<std::string> written_sources_;  // source hashes
  std::unique_ptr<base::AppendFile> log_;
};

inline constexpr const char* kMetaFile = "run_meta.json";
inline constexpr const char* kLogFile = "run.ndjson";
inline constexpr const char* kWinnersFile = "best_kernels.json";
inline constexpr const char* kLockFile = "run.lock";

}  // namespace mlx_kd::archive
