// Schema 2 and 3 differ in what an entry may leave out; schema 1 is opened out into entries of
// schema 2 (read_first.cpp).
#include <set>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/packs/pack.h"
#include "mlx_kd/packs/read_first.h"

namespace mlx_kd::packs {
namespace {

using base::Json;

constexpr const char* kDamaged = ": the file is damaged or not a pack";

// The field, or nullptr if it is absent or null itself.
const Json* find(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::string text_or(const Json& object, const char* name, const std::string& otherwise) {
  const Json* value = find(object, name);
  if (!value) return otherwise;
  if (!value->is_string())
    base::misuse("packs", std::string("'") + name + "' is no text" + kDamaged);
  return value->get_ref<const std::string&>().empty() ? otherwise : value->get<std::string>();
}

std::string text(const Json& object, const char* name) {
  const std::string value = text_or(object, name, "");
  if (value.empty()) base::misuse("packs", std::string("there is no '") + name + "'" + kDamaged);
  return value;
}

Json value_or_empty(const Json& object, const char* name, const Json& empty) {
  const Json* value = find(object, name);
  if (!value) return empty;
  if (value->type() != empty.type())
    base::misuse("packs", std::string("'") + name + "' is not an " + empty.type_name() + kDamaged);
  return *value;
}

Json read_knobs(const Json& raw) {
  const Json* knobs = find(raw, "knobs");
  const Json* params = find(raw, "template_params");
  if (knobs && params && *knobs != *params)
    base::misuse("packs", std::string("'knobs' and 'template_params' differ") + kDamaged);
  return value_or_empty(raw, knobs ? "knobs" : "template_params", Json::object());
}

spec::Metrics read_metrics(const Json& raw) {
  for (const char* name : {"bit_exact", "cold"})
    if (const auto found = raw.find(name); found != raw.end() && !found->is_boolean())
      base::misuse("packs", std::string("'") + name + "' is neither true nor false" + kDamaged);
  return spec::metrics_from_json(raw);
}

int64_t positive(const Json& value) {
  if (!value.is_number_integer() || value.get<int64_t>() < 1)
    base::misuse("packs", std::string("rows_range or rows_sampled holds no row count") + kDamaged);
  return value.get<int64_t>();
}

std::optional<RowsRange> read_rows(const Json& raw) {
  const Json range = value_or_empty(raw, "rows_range", Json::array());
  if (range.empty()) return std::nullopt;
  if (range.size() != 2) base::misuse("packs", std::string("'rows_range' is no pair") + kDamaged);
  RowsRange result{positive(range[0]), positive(range[1]), {}};
  if (result.lo > result.hi)
    base::misuse("packs", std::string("'rows_range' ends before it starts") + kDamaged);
  for (const Json& rows : value_or_empty(raw, "rows_sampled", Json::array()))
    result.sampled.push_back(positive(rows));
  return result;
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
      "rows_range",   "rows_sampled", "loose"};
  Json result = raw;
  for (const std::string& name : known) result.erase(name);
  if (result.contains("metrics") && result["metrics"].is_object())
    erase(result["metrics"], spec::to_json(entry.metrics));
  erase(result["key"], spec::to_json(entry.key));
  for (const char* name : {"key", "metrics"})
    if (result.contains(name) && result[name].empty()) result.erase(name);
  return result;
}

void read_source(const Json& raw, int schema, Entry& entry) {
  entry.language = schema < 3 ? text_or(raw, "language", "metal") : text(raw, "language");
  entry.source = text(raw, entry.language == "metal" ? "metal_source" : "source");
  entry.func_name =
      schema < 3 ? text_or(raw, "func_name", entry.key.op_name) : text(raw, "func_name");
}

void read_specs(const Json& raw, Entry& entry) {
  entry.inputs_spec = value_or_empty(raw, "inputs_spec", Json::array());
  entry.outputs_spec = value_or_empty(raw, "outputs_spec", Json::array());
  entry.launch_params = value_or_empty(raw, "launch_params", Json::object());
  entry.knobs = read_knobs(raw);
  entry.runtime_inputs = value_or_empty(raw, "runtime_inputs", Json::object());
  entry.target = value_or_empty(raw, "target", Json::object());
  entry.proof = value_or_empty(raw, "proof", Json::object());
}

Entry read_entry(const Json& raw, int schema) {
  if (!raw.is_object()) base::misuse("packs", std::string("it is not an object") + kDamaged);
  Entry entry;
  entry.key = spec::pin_key_from_json(raw.value("key", Json()));
  if (entry.key.op_name.empty())
    base::misuse("packs", std::string("its 'op_name' is empty") + kDamaged);
  read_source(raw, schema, entry);
  read_specs(raw, entry);
  entry.metrics = read_metrics(value_or_empty(raw, "metrics", Json::object()));
  entry.rows_range = read_rows(raw);
  entry.protocol = schema < 3 ? text_or(raw, "protocol", kFirstVersion) : text(raw, "protocol");
  entry.loose = schema == 1 || raw.value("loose", Json()) == Json(true);
  entry.candidate_id = text_or(raw, "candidate_id", "");
  if (entry.candidate_id.empty()) entry.candidate_id = candidate_id_of(entry);
  entry.source_hash = text_or(raw, "source_hash", "");
  if (entry.source_hash.empty()) entry.source_hash = source_hash_of(entry);
  entry.other = unknown_of(raw, entry);
  return entry;
}

int schema_of(const Json& root, const std::string& origin) {
  if (!root.is_object() || (!root.contains("entries") && !root.contains("ops")))
    base::misuse("packs",
                 origin + " is no pack: name a pack, a best_kernels.json or a run directory");
  const Json version = root.value("schema_version", root.contains("ops") ? Json("1") : Json());
  const std::string text = version.is_string() ? version.get<std::string>() : version.dump();
  for (int schema = 1; schema <= kNewestSchema; ++schema)
    if (text == std::to_string(schema)) return schema;
  if (!text.empty() && text.size() < 10 && text.find_first_not_of("0123456789") == text.npos)
    base::misuse("packs", origin + " is of schema " + text + "; this program reads 1 to " +
                              std::to_string(kNewestSchema) + ": use a newer mlx-kd");
  base::misuse("packs", origin + " states no schema_version" + kDamaged);
}

// Messages of lower rooms do not know the file.
[[noreturn]] void misuse_in(const std::string& where, const base::Error& error) {
  const std::string text = error.what();
  const size_t room_end = text.find("] ");
  base::misuse("packs", where + ": " + (room_end == text.npos ? text : text.substr(room_end + 2)));
}

std::vector<Entry> read_entries(const Json& list, int schema, const std::string& origin) {
  if (!list.is_array()) base::misuse("packs", origin + " has no list of entries" + kDamaged);
  std::vector<Entry> result;
  for (const Json& raw : list) {
    try {
      result.push_back(read_entry(raw, schema));
    } catch (const base::Error& error) {
      misuse_in(origin + ", entry " + std::to_string(result.size() + 1), error);
    }
  }
  return result;
}

}  // namespace

Pack parse_pack(std::string_view text, const std::string& origin) {
  const Json root = base::parse_json(text, "packs", origin);
  Pack result;
  result.schema = schema_of(root, origin);
  const Json list = result.schema == 1 ? open_out(root.value("ops", Json()), origin)
                                       : root.value("entries", Json());
  result.entries = read_entries(list, result.schema, origin);
  result.runtime = value_or_empty(root, "runtime", Json::object());
  result.other = root;
  for (const char* name : {"schema_version", "runtime", "entries", "ops"}) result.other.erase(name);
  return result;
}

Pack read_pack(const fs::path& path) {
  return parse_pack(base::read_file(path, "packs", kMaxPackBytes), path.string());
}

Pack read_winners(const fs::path& path) {
  std::error_code unreadable;  // then opening the file says why
  if (!fs::is_directory(path, unreadable)) return read_pack(path);
  const fs::path winners = path / "best_kernels.json";
  if (fs::exists(winners, unreadable)) return read_pack(winners);
  if (fs::exists(path / "run_meta.json", unreadable))
    base::misuse("packs", "the run in " + path.string() +
                              " has chosen no winners yet: finish it with kd run --resume");
  base::misuse("packs", path.string() +
                            " is no run directory (it has no best_kernels.json): name "
                            "the --out folder of a kd run");
}

}  // namespace mlx_kd::packs
