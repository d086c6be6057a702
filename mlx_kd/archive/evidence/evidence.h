// What is kept of finished runs of suites, so that anybody can see what was run and run it again.
//
// A folder of evidence holds
//
//   matrix.jsonl       one object per line, keys sorted, in the order of `id`; one row per run:
//     id ("rmsnorm.glm_flash_small.float16.x86_64.amd-epyc.mlx-0.32.4"), op_name, shape_suite,
//     dtype, device (kind), device_name, device_arch, mlx_version, mlx_kd_version, protocol,
//     budget, seed, created_at, evaluated, sizes, won (sizes with a winner), speedup_geomean (over
//     those; left out where none), capsule ("capsules/<id>.json")
//   capsules/<id>.json one object: command (what runs it again), run_meta (whole), statuses
//     {benchmarked: n, ...}, winners and claims and aa as in the run's finish line, seconds
//
// A later run of the same op, suite, type, device and MLX takes the place of an earlier one.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "mlx_kd/archive/run/run_data.h"

namespace mlx_kd::archive {

// One row of the matrix; the members are called as its keys.
struct Evidence {
  std::string id, op_name, shape_suite, dtype, device;
  std::string created_at;  // of the run
  std::string capsule;     // relative to the folder of evidence
  base::Json row;          // whole
};

// The command that a run was started with, as far as its directory tells: "./kd run --op ...".
std::string command_of(const RunMeta& meta, const std::string& out);

// Adds a finished run, under a lock; the row. Misuse if it is not finished, its times come from the
// null device or the executor of Metal kernels, or its sizes are those of no suite (evidence is of
// what others can name).
Evidence add_evidence(const std::filesystem::path& folder, const RunData& run);

// The rows in their order; none if there is no matrix yet. Misuse, naming the line, for one that is
// damaged, and for one whose capsule is missing.
std::vector<Evidence> read_evidence(const std::filesystem::path& folder);

// The command in a row's capsule. Misuse if it is damaged.
std::string command_of(const std::filesystem::path& folder, const Evidence& evidence);

}  // namespace mlx_kd::archive
