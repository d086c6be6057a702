// Schema 1 is opened out into entries of schema 2 (read_first.cpp), what schema 4 writes once into
// whole entries (compact.cpp); read_entry.cpp reads them.
#include <set>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/packs/fields.h"
#include "mlx_kd/packs/file/compact.h"
#include "mlx_kd/packs/file/read_entry.h"
#include "mlx_kd/packs/file/read_first.h"
#include "mlx_kd/packs/pack.h"

namespace mlx_kd::packs {
namespace {

using base::Json;

int schema_of(const Json& root, const std::string& origin) {
  if (!root.is_object() || (!root.contains("entries") && !root.contains("ops")))
    base::misuse("packs",
                 origin + " is not a pack: name a pack, a best_kernels.json or a run directory");
  const Json version = root.value("schema_version", root.contains("ops") ? Json("1") : Json());
  const std::string text = version.is_string() ? version.get<std::string>() : version.dump();
  for (int schema = 1; schema <= kNewestSchema; ++schema)
    if (text == std::to_string(schema)) return schema;
  if (!text.empty() && text.size() < 10 && text.find_first_not_of("0123456789") == text.npos)
    base::misuse("packs", origin + " is of schema " + text + "; this program reads 1 to " +
                              std::to_string(kNewestSchema) + ": use a newer mlx-kd");
  base::misuse("packs", origin + " states no schema_version: the file is damaged or not a pack");
}

// Messages of lower rooms, and of fields, do not know the file.
template <class Function>
auto reading(const std::string& where, const Function& read) {
  try {
    return read();
  } catch (const base::Error& error) {
    const std::string text = error.what();
    const size_t room_end = text.find("] ");
    base::misuse("packs",
                 where + ": " + (room_end == text.npos ? text : text.substr(room_end + 2)));
  }
}

std::vector<Entry> read_entries(Json list, int schema, Opener& opener, const std::string& origin) {
  if (!list.is_array())
    base::misuse("packs", origin + " has no list of entries: the file is damaged or not a pack");
  std::vector<Entry> result;
  for (Json& raw : list)
    result.push_back(reading(origin + ", entry " + std::to_string(result.size() + 1), [&] {
      if (schema >= 4) raw = opener.open(std::move(raw));
      return read_entry(raw, schema);
    }));
  return result;
}

// What is left of the file when all that this program knows is taken away.
Json unknown_of(const Json& root) {
  static const std::set<std::string> known = {"schema_version", "runtime", "entries", "ops",
                                              "common",         "sources"};
  Json result = Json::object();
  for (const auto& [name, value] : root.items())
    if (!known.count(name)) result[name] = value;
  return result;
}

}  // namespace

Pack parse_pack(std::string_view text, const std::string& origin) {
  Json root = base::parse_json(text, "packs", origin);
  Pack result;
  result.schema = schema_of(root, origin);
  result.other = unknown_of(root);
  result.runtime = reading(origin, [&] { return object_in(root, "runtime"); });
  Json list =
      result.schema == 1 ? open_out(root.value("ops", Json()), origin) : std::move(root["entries"]);
  static const Json none = Json::object();  // before schema 4
  Opener opener = reading(origin, [&] { return Opener(result.schema < 4 ? none : root); });
  result.entries = read_entries(std::move(list), result.schema, opener, origin);
  return result;
}

Pack read_pack(const fs::path& path) {
  return parse_pack(base::read_file(path, "packs", kMaxPackBytes), path.string());
}

void check_is_pack(const fs::path& path) {
  std::error_code unreadable;  // then opening the file says why
  if (!fs::exists(path, unreadable) && !unreadable) return;
  const std::string text = base::read_file(path, "packs", kMaxPackBytes);
  const auto is_shallow = [](int depth, Json::parse_event_t, const Json&) { return depth < 2; };
  const Json outline = Json::parse(text, is_shallow, /*allow_exceptions=*/false);
  if (outline.is_discarded()) base::parse_json(text, "packs", path.string());  // says what is wrong
  schema_of(outline, path.string());
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
                            " is not a run directory (it has no best_kernels.json): name "
                            "the --out folder of a kd run");
}

}  // namespace mlx_kd::packs
