#include "mlx_kd/archive/evidence/manifest.h"

#include <algorithm>

namespace mlx_kd::archive {
namespace {

namespace fs = std::filesystem;
using base::OrderedJson;
using Rows = std::vector<Evidence>;

constexpr const char* kDtypes[] = {"float16", "bfloat16"};
constexpr const char* kDevices[] = {"cpu", "metal"};
constexpr const char* kPlannedBudget = "200";

constexpr const char* kCandidateIds =
    "op_name + \"_\" + the first 16 hex digits of the SHA-256 of the canonical JSON of the source, "
    "its function, arrays, knobs and launch (docs/formats.md)";

TrackedModel glm() {
  return {"mlx-community/GLM-4.7-Flash-4bit",
          "glm",
          {"rmsnorm_residual", "rope", "swiglu"},
          "glm_flash_small",
          "selected: the model decodes by latent attention (MLA)",
          "glm_flash_small"};
}

TrackedModel without_rope(const std::string& id, const std::string& family,
                          const std::string& suite) {
  return {id,
          family,
          {"rmsnorm_residual", "swiglu"},
          suite,
          "not selected: rope is the decode boundary of latent attention (MLA), which the model "
          "does not have",
          "glm_flash_decode"};
}

struct Job {
  std::string op, suite, dtype, device;
};

// The newest evidence of a job; nullptr where it was not run.
const Evidence* find(const Rows& rows, const Job& job) {
  const Evidence* newest = nullptr;
  for (const Evidence& row : rows)
    if (row.op_name == job.op && row.shape_suite == job.suite && row.dtype == job.dtype &&
        row.device == job.device && (!newest || row.created_at > newest->created_at))
      newest = &row;
  return newest;
}

std::string planned_command(const Job& job) {
  return "./kd run --op " + job.op + " --shapes " + job.suite + " --dtype " + job.dtype +
         " --device " + job.device + " --budget " + kPlannedBudget + " --out runs/" + job.op + "." +
         job.suite + "." + job.dtype + "." + job.device;
}

OrderedJson command_json(const ManifestSources& sources, const Rows& rows, const Job& job) {
  const Evidence* evidence = find(rows, job);
  OrderedJson result = {
      {"op", job.op},
      {"suite", job.suite},
      {"dtype", job.dtype},
      {"device", job.device},
      {"status", evidence ? "run" : "planned"},
      {"command", evidence ? command_of(sources.evidence, *evidence) : planned_command(job)}};
  if (evidence) result["evidence"] = evidence->id;
  return result;
}

std::vector<Job> jobs_of(const std::vector<std::string>& ops, const std::string& suite) {
  std::vector<Job> result;
  for (const std::string& op : ops)
    for (const char* device : kDevices)
      for (const char* dtype : kDtypes) result.push_back({op, suite, dtype, device});
  return result;
}

OrderedJson commands_of(const ManifestSources& sources, const Rows& rows,
                        const std::vector<Job>& jobs) {
  OrderedJson result = OrderedJson::array();
  for (const Job& job : jobs) result.push_back(command_json(sources, rows, job));
  return result;
}

std::vector<const Evidence*> evidence_of(const Rows& rows, const TrackedModel& model) {
  std::vector<const Evidence*> result;
  for (const Job& job : jobs_of(model.ops, model.suite))
    if (const Evidence* found = find(rows, job)) result.push_back(found);
  return result;
}

// Where and with what the newest of a model's runs was made; null where nothing was run.
OrderedJson fingerprint_of(const std::vector<const Evidence*>& evidence) {
  if (evidence.empty()) return nullptr;
  const auto newest =
      *std::max_element(evidence.begin(), evidence.end(),
                        [](const auto* a, const auto* b) { return a->created_at < b->created_at; });
  OrderedJson result;
  for (const char* name : {"mlx_version", "mlx_kd_version", "device_name", "device_arch"})
    result[name] = newest->row.value(name, "unknown");
  return result;
}

OrderedJson model_json(const ManifestSources& sources, const Rows& rows,
                       const TrackedModel& model) {
  const auto evidence = evidence_of(rows, model);
  OrderedJson ids = OrderedJson::array(), capsules = OrderedJson::array();
  for (const Evidence* row : evidence) {
    ids.push_back(row->id);
    capsules.push_back(sources.evidence_name + "/" + row->capsule);
  }
  return {
      {"model_id", model.model_id},
      {"model_family", model.family},
      {"evidence", {{"matrix_rows", ids}, {"repro_capsules", capsules}}},
      {"phase0",
       {{"selected_ops", model.ops},
        {"shape_suite", model.suite},
        {"rope_status", model.rope_status},
        {"commands_used_or_planned", commands_of(sources, rows, jobs_of(model.ops, model.suite))},
        {"optional_baseline_rmsnorm",
         commands_of(sources, rows, jobs_of({"rmsnorm"}, model.baseline_suite))}}},
      {"runtime_fingerprint", fingerprint_of(evidence)}};
}

std::vector<std::string> packs_in(const fs::path& folder) {
  std::vector<std::string> result;
  std::error_code none;
  for (const auto& file : fs::directory_iterator(folder, none))
    if (file.path().extension() == ".json")
      result.push_back("packs/" + file.path().filename().string());
  std::sort(result.begin(), result.end());
  return result;
}

}  // namespace

const std::vector<TrackedModel>& tracked_models() {
  static const std::vector<TrackedModel> models = {
      glm(), without_rope("mlx-community/Qwen3-30B-A3B-4bit", "qwen", "qwen30b_decode"),
      without_rope("mlx-community/LFM2-8B-A1B-4bit", "lfm", "lfm2_decode"),
      without_rope("mlx-community/LFM2-8B-A1B-8bit", "lfm", "lfm2_decode"),
      without_rope("mlx-community/LFM2-8B-A1B-8bit-MLX", "lfm", "lfm2_decode")};
  return models;
}

base::OrderedJson make_manifest(const ManifestSources& sources) {
  const Rows rows = read_evidence(sources.evidence);
  OrderedJson models = OrderedJson::array();
  for (const TrackedModel& model : tracked_models())
    models.push_back(model_json(sources, rows, model));
  return {{"schema_version", "1"},
          {"source_of_truth",
           {{"matrix", sources.evidence_name + "/matrix.jsonl"},
            {"repro_capsules_dir", sources.evidence_name + "/capsules"}}},
          {"pinning_key_fields",
           {"op_name", "mlx_version", "device_arch", "device_name", "dtype", "shape_signature"}},
          {"candidate_id_policy", kCandidateIds},
          {"models", models},
          {"artifacts", {{"packs", packs_in(sources.packs)}}}};
}

}  // namespace mlx_kd::archive
