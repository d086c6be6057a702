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

TrackedModel model_of(const OrderedJson& json) {
  const OrderedJson& baseline = json.at("baseline");
  return {json.at("model_id"), json.at("family"),   json.at("ops"),    json.at("suite"),
          json.at("notes"),    baseline.at("name"), baseline.at("op"), baseline.at("suite")};
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

OrderedJson command_json(const ManifestSources& sources, const Rows& rows, const Job& job) {
  const Evidence* evidence = find(rows, job);
  const std::string planned = "./kd run --op " + job.op + " --shapes " + job.suite + " --dtype " +
                              job.dtype + " --device " + job.device + " --budget " +
                              kPlannedBudget + " --out runs/" + job.op + "." + job.suite + "." +
                              job.dtype + "." + job.device;
  OrderedJson result = {{"op", job.op},
                        {"suite", job.suite},
                        {"dtype", job.dtype},
                        {"device", job.device},
                        {"status", evidence ? "run" : "planned"},
                        {"command", evidence ? command_of(sources.evidence, *evidence) : planned}};
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
  std::vector<const Evidence*> evidence;
  for (const Job& job : jobs_of(model.ops, model.suite))
    if (const Evidence* found = find(rows, job)) evidence.push_back(found);
  OrderedJson ids = OrderedJson::array(), capsules = OrderedJson::array();
  for (const Evidence* row : evidence) {
    ids.push_back(row->id);
    capsules.push_back(sources.evidence_name + "/" + row->capsule);
  }
  OrderedJson plan = {{"selected_ops", model.ops}, {"shape_suite", model.suite}};
  plan.update(model.notes);
  plan["commands_used_or_planned"] = commands_of(sources, rows, jobs_of(model.ops, model.suite));
  plan[model.baseline_name] =
      commands_of(sources, rows, jobs_of({model.baseline_op}, model.baseline_suite));
  return {{"model_id", model.model_id},
          {"model_family", model.family},
          {"evidence", {{"matrix_rows", ids}, {"repro_capsules", capsules}}},
          {"phase0", plan},
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
  static const std::vector<TrackedModel> models = [] {
    std::vector<TrackedModel> all;
    for (const OrderedJson& json :
         OrderedJson::parse(tracked_model_files().at("tracked_models.json")))
      all.push_back(model_of(json));
    return all;
  }();
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
