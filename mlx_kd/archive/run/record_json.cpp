#include "mlx_kd/archive/run/record_json.h"

#include "mlx_kd/base/error.h"
#include "mlx_kd/spec/count.h"

namespace mlx_kd::archive {
namespace {

using base::Json;

// zmlx.kd calls the errors of one size by shorter names.
void rename(Json& object, const char* from, const char* to) {
  if (auto found = object.find(from); found != object.end() && !object.contains(to)) {
    object[to] = *found;
    object.erase(from);
  }
}

Json per_shape(const std::vector<spec::SizeMetrics>& sizes) {
  Json result = Json::array();
  for (const spec::SizeMetrics& size : sizes) {
    Json entry = spec::to_json(size.metrics);
    rename(entry, "correctness_max_abs_err", "max_abs_err");
    rename(entry, "correctness_max_rel_err", "max_rel_err");
    entry["shape"] = size.dims.json();
    result.push_back(std::move(entry));
  }
  return result;
}

Json metrics_json(const Record& record) {
  const spec::Verdict& verdict = record.verdict;
  Json result = spec::to_json(verdict.metrics);
  result["dtype"] = spec::name_of(record.candidate.dtype);
  if (std::isfinite(verdict.objective)) result["objective"] = verdict.objective;
  if (!verdict.sizes.empty()) result["per_shape"] = per_shape(verdict.sizes);
  return result;
}

// What other programs may leave out or write as null.
Json object_at(const Json& value, const char* key) {
  const auto found = value.find(key);
  return found != value.end() && found->is_object() ? *found : Json::object();
}

// Its members that are numbers.
Json numbers_at(const Json& value, const char* key) {
  Json result = Json::object();
  const Json object = object_at(value, key);
  for (const auto& [name, member] : object.items())
    if (member.is_number()) result[name] = member;
  return result;
}

void take_source(spec::Candidate& candidate, const Json& value, Sources& sources) {
  const char* key = candidate.language == "metal" ? "metal_source" : "source";
  if (value.contains(key)) {
    candidate.source = value[key].get<std::string>();
    sources.emplace(candidate.source_hash(), candidate.source);
    return;
  }
  if (!value.contains("source_hash")) return;  // a failure of zmlx.kd may lack both
  const std::string hash = value["source_hash"].get<std::string>();
  const auto found = sources.find(hash);
  if (found == sources.end())
    base::misuse("archive", "source '" + hash + "' is in no earlier record: the file is damaged");
  candidate.source = found->second;
}

spec::Candidate candidate_from_json(const Json& value, Sources& sources) {
  spec::Candidate candidate;
  candidate.op_name = value.at("op_name").get<std::string>();
  candidate.variant = value.value("variant", "");
  candidate.language = value.value("language", "metal");
  const std::string dtype =
      object_at(value, "metrics").value("dtype", value.value("dtype", "float16"));
  candidate.dtype = spec::parse_float_dtype(dtype);
  candidate.func_name = value.value("func_name", "");
  candidate.inputs_spec = value.value("inputs_spec", Json::array());
  candidate.outputs_spec = value.value("outputs_spec", Json::array());
  candidate.template_params = object_at(value, "template_params");
  candidate.launch_params = object_at(value, "launch_params");
  // What is not an integer (eps of zmlx.kd) stays in template_params alone.
  for (const auto& [name, setting] : candidate.template_params.items())
    if (setting.is_number_integer()) candidate.knobs.set(name, setting.get<int64_t>());
  take_source(candidate, value, sources);
  return candidate;
}

// Other programs have other words for how a candidate failed; event is what they agree on.
spec::Status status_of(const Json& value) {
  const std::string name = value.value("status", "");
  for (spec::Status status : spec::all_statuses())
    if (spec::name_of(status) == name) return status;
  return value.at("event") == "evaluation" ? spec::Status::benchmarked : spec::Status::launch_error;
}

spec::Verdict verdict_from_json(const Json& value, const std::vector<spec::Dims>& sizes) {
  spec::Verdict verdict;
  verdict.status = status_of(value);
  verdict.reason = value.value("reason", "");
  verdict.seconds = numbers_at(value, "seconds");
  const Json metrics = object_at(value, "metrics");
  verdict.metrics = spec::metrics_from_json(metrics);
  verdict.objective = metrics.value("objective", spec::kUnmeasured);
  for (Json entry : metrics.value("per_shape", Json::array())) {
    rename(entry, "max_abs_err", "correctness_max_abs_err");
    rename(entry, "max_rel_err", "correctness_max_rel_err");
    verdict.sizes.push_back(
        {dims_from_json(entry.at("shape"), sizes), spec::metrics_from_json(entry)});
  }
  return verdict;
}

}  // namespace

spec::Dims dims_from_json(const Json& value, const std::vector<spec::Dims>& sizes) {
  const spec::Dims dims = spec::Dims::from_json(value);
  for (const spec::Dims& size : sizes)
    if (size == dims) return size;
  return dims;
}

std::string to_line(const Record& record, uint64_t seed, bool with_source) {
  const bool measured = record.verdict.status == spec::Status::benchmarked;
  Json object = {{"event", measured ? "evaluation" : "failure"},
                 {"ts", record.ts},
                 {"step", record.step},
                 {"seed", seed},
                 {"op_name", record.candidate.op_name},
                 {"candidate_id", record.candidate_id},
                 {"parent_id", record.parent_id.empty() ? Json() : Json(record.parent_id)},
                 {"status", spec::name_of(record.verdict.status)},
                 {"features", record.features},
                 {"metrics", metrics_json(record)},
                 {"seconds", record.verdict.seconds},
                 {"notes", record.notes}};
  if (!measured) object["reason"] = record.verdict.reason;
  object["variant"] = record.candidate.variant;
  object["language"] = record.candidate.language;
  object["dtype"] = spec::name_of(record.candidate.dtype);
  object["func_name"] = record.candidate.func_name;
  object["inputs_spec"] = record.candidate.inputs_spec;
  object["outputs_spec"] = record.candidate.outputs_spec;
  object["template_params"] = record.candidate.template_params;
  object["launch_params"] = record.candidate.launch_params;
  object["source_hash"] = record.candidate.source_hash();
  if (with_source)
    object[record.candidate.language == "metal" ? "metal_source" : "source"] =
        record.candidate.source;
  // As canonical_json, but a compiler's message in some other encoding must not lose the record.
  return object.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
}

Record record_from_json(const Json& value, const std::vector<spec::Dims>& sizes, Sources& sources) {
  Record record;
  record.step = value.contains("step") ? spec::count_of(value["step"]) : 0;
  record.candidate_id = value.at("candidate_id").get<std::string>();
  if (const Json parent = value.value("parent_id", Json()); parent.is_string())
    record.parent_id = parent.get<std::string>();
  record.candidate = candidate_from_json(value, sources);
  if (const Json features = value.value("features", Json()); features.is_array())
    record.features = features.get<std::vector<double>>();
  record.verdict = verdict_from_json(value, sizes);
  record.ts = value.value("ts", "");
  record.notes = object_at(value, "notes");
  if (const auto at = record.notes.find("incumbent"); at != record.notes.end() && !at->is_boolean())
    record.notes.erase(at);
  return record;
}

}  // namespace mlx_kd::archive
