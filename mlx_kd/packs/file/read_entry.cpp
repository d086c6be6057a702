// Schemas 2, 3 and 4 differ in what an entry may leave out. What schema 4 added has no meaning in
// older files.
#include "mlx_kd/packs/file/read_entry.h"

#include <algorithm>
#include <set>

#include "mlx_kd/base/error.h"
#include "mlx_kd/packs/fields.h"
#include "mlx_kd/packs/ranges.h"
#include "mlx_kd/spec/protocol_name.h"

namespace mlx_kd::packs {
namespace {

using base::Json;

Json read_knobs(const Json& raw) {
  const Json* knobs = find(raw, "knobs");
  const Json* params = find(raw, "template_params");
  if (knobs && params && *knobs != *params) damaged("'knobs' and 'template_params' differ");
  return object_in(raw, knobs ? "knobs" : "template_params");
}

spec::Metrics read_metrics(const Json& raw) {
  for (const char* name : {"bit_exact", "cold"})
    if (const auto found = raw.find(name); found != raw.end() && !found->is_boolean())
      damaged(std::string("'") + name + "' is neither true nor false");
  return spec::metrics_from_json(raw);
}

// Before schema 4 sentences said what `version` 1 says now.
Json read_proof(const Json& raw, int schema) {
  static const Json kVersion1 = {
      {"bound", "(roundings u + accumulated 2^-24) S + tiny"},
      {"cases", "all at the smallest size, one at each other size, one after timing"},
      {"beyond_reference_bytes", "fewer rows are proved"}};
  Json proof = object_in(raw, "proof");
  if (schema >= 4) return proof;
  for (const auto& [name, sentence] : kVersion1.items())
    if (proof.value(name, Json()) != sentence) return proof;
  for (const auto& [name, sentence] : kVersion1.items()) proof.erase(name);
  proof["version"] = 1;
  return proof;
}

void read_source(const Json& raw, int schema, Entry& entry) {
  entry.language = schema < 3 ? text_or(raw, "language", "metal") : text(raw, "language");
  const base::Json* launch = find(raw, "launch_params");
  const bool is_body =
      spec::is_metal_body(entry.language, launch && launch->is_object() ? *launch : base::Json());
  const char* name = is_body ? "metal_source" : "source";
  if (!find(raw, name) && raw.contains("common"))
    base::misuse("packs",
                 "a program that does not know schema 4 wrote the file and left out its 'common' "
                 "and 'sources', where most of this entry was: install the run again");
  entry.source = text(raw, name);
  entry.func_name =
      schema < 3 ? text_or(raw, "func_name", entry.key.op_name) : text(raw, "func_name");
}

void read_specs(const Json& raw, int schema, Entry& entry) {
  entry.inputs_spec = list_in(raw, "inputs_spec");
  entry.outputs_spec = list_in(raw, "outputs_spec");
  entry.launch_params = object_in(raw, "launch_params");
  entry.knobs = read_knobs(raw);
  entry.runtime_inputs = object_in(raw, "runtime_inputs");
  entry.target = object_in(raw, "target");
  entry.proof = read_proof(raw, schema);
}

int read_contract(const Json& raw) {
  const Json* value = find(raw, "contract");
  if (!value) return 1;
  if (!value->is_number_integer() || *value < 1 || *value > kMostContract)
    damaged("'contract' is not a number from 1 to " + std::to_string(kMostContract));
  return value->get<int>();
}

ClaimKind read_claim_kind(const Json& raw) {
  const std::string stored = text_or(raw, "claim_kind", name_of(ClaimKind::faster_than_mlx));
  for (const ClaimKind kind : {ClaimKind::faster_than_mlx, ClaimKind::mlx_cannot})
    if (stored == name_of(kind)) return kind;
  base::misuse("packs", "its 'claim_kind' is '" + stored.substr(0, 40) +
                            "', which this program does not know: use a newer mlx-kd");
}

void erase(Json& object, const Json& known) {
  for (const auto& [name, value] : known.items()) object.erase(name);
}

// What is left of an entry when all that this program knows is taken away.
Json unknown_of(const Json& raw, const Entry& entry) {
  static const std::set<std::string> known = {
      "candidate_id", "func_name",    "language",       "source",          "metal_source",
      "inputs_spec",  "outputs_spec", "knobs",          "template_params", "launch_params",
      "target",       "proof",        "runtime_inputs", "source_hash",     "protocol",
      "rows_range",   "rows_sampled", "loose",          "contract",        "ranges",
      "sampled",      "claim_kind",   "approximate",    "common"};
  Json result = Json::object();
  for (const auto& [name, value] : raw.items())
    if (!known.count(name)) result[name] = value;
  if (result.contains("metrics") && result["metrics"].is_object())
    erase(result["metrics"], spec::to_json(entry.metrics));
  erase(result["key"], spec::to_json(entry.key));
  for (const char* name : {"key", "metrics"})
    if (result.contains(name) && result[name].empty()) result.erase(name);
  return result;
}

}  // namespace

Entry read_entry(const Json& raw, int schema) {
  if (!raw.is_object()) damaged("it is not an object");
  Entry entry;
  entry.key = spec::pin_key_from_json(raw.value("key", Json()));
  if (entry.key.op_name.empty()) damaged("its 'op_name' is empty");
  read_source(raw, schema, entry);
  read_specs(raw, schema, entry);
  entry.metrics = read_metrics(object_in(raw, "metrics"));
  entry.rows_range = read_rows(raw);
  if (schema >= 4) {
    // What an entry may say since schema 4.
    entry.contract = read_contract(raw);
    entry.claim_kind = read_claim_kind(raw);
    entry.approximate = flag_in(raw, "approximate");
    entry.ranges = read_ranges(raw, entry.key.shape_signature);
  }
  entry.protocol = spec::protocol_name(schema < 3 ? text_or(raw, "protocol", kFirstVersion)
                                                  : text(raw, "protocol"));
  entry.loose = schema == 1 || raw.value("loose", Json()) == Json(true);
  entry.candidate_id = text_or(raw, "candidate_id", "");
  if (entry.candidate_id.empty()) entry.candidate_id = candidate_id_of(entry);
  entry.source_hash = text_or(raw, "source_hash", "");
  if (entry.source_hash.empty()) entry.source_hash = source_hash_of(entry);
  entry.other = unknown_of(raw, entry);
  return entry;
}

}  // namespace mlx_kd::packs
