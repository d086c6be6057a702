// The models that are followed from the first phase on: which of their ops are tuned, on which
// sizes, what was run of it and what is planned. docs/models.md states the format.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "mlx_kd/archive/evidence/evidence.h"

namespace mlx_kd::archive {

struct TrackedModel {
  std::string model_id;          // on the hub
  std::string family;            // "glm", "qwen", "lfm"
  std::vector<std::string> ops;  // selected
  std::string suite;             // of all of them
  base::OrderedJson notes;       // {"rope_status": why that op is selected or not}
  // An op that may be tuned in addition, on a suite of its own; the manifest has it by this name.
  std::string baseline_name, baseline_op, baseline_suite;
};
// Those of tracked_models.json.
const std::vector<TrackedModel>& tracked_models();

// Generated (mlx_kd/archive/room.cmake).
const std::map<std::string, std::string>& tracked_model_files();

struct ManifestSources {
  std::filesystem::path evidence;  // read from here
  std::string evidence_name;       // and called so: "bench/evidence"
  std::filesystem::path packs;     // shipped packs; may be absent
};

// Each model's selected ops in each followed type and device, each as a command that was run (with
// its evidence) or is planned. The same evidence gives the same text.
base::OrderedJson make_manifest(const ManifestSources& sources);

}  // namespace mlx_kd::archive
