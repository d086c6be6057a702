// A pack is one object, keys sorted, two spaces a level, ASCII, "\n" at the end:
//
//   schema_version  "3"
//   runtime         {mlx_version, device_name, device_arch, ...}: where it was measured; "mixed"
//                   where the entries come from several
//   entries         in the order of key_before, one a key and target, each an object of
//     key             {op_name, mlx_version, device_arch, device_name, dtype, shape_signature}
//     target          {isa: [..], cores} | {sm}: what the device must have beside the key
//     candidate_id, func_name, language ("metal", "cuda", "cpp"), source_hash
//     metal_source    the body of a Metal kernel: such an entry the first version can load
//     source          the whole file, for every other language: the first version skips the entry
//     knobs, template_params   the same object, for new readers and old
//     launch_params   {launch_kind, and the launch knobs}
//     inputs_spec, outputs_spec   [{name, dtype, shape, strides: "contiguous"}]
//     runtime_inputs  {eps: 1e-06}: the values it was proved with
//     metrics         to_json(Metrics), those that were measured
//     protocol        hash of the measurement settings; "v1" for times of the first version
//     proof           {seeds, distributions, bound, bit_exact}
//     rows_range      [lo, hi] and rows_sampled [..]: optional
//     loose           true where the entry comes from schema 1: "unknown" in its key, and an empty
//                     shape_signature, match anything
//
// Unknown keys of the file, an entry, its key and its metrics are written back as they were read.
#include <unistd.h>

#include <algorithm>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/packs/pack.h"

namespace mlx_kd::packs {
namespace {

using base::Json;

Json known_of(const Entry& e) {
  Json result = {{"key", spec::to_json(e.key)},
                 {"candidate_id", e.candidate_id},
                 {"func_name", e.func_name},
                 {"language", e.language},
                 {e.language == "metal" ? "metal_source" : "source", e.source},
                 {"inputs_spec", e.inputs_spec},
                 {"outputs_spec", e.outputs_spec},
                 {"knobs", e.knobs},
                 {"template_params", e.knobs},
                 {"launch_params", e.launch_params},
                 {"runtime_inputs", e.runtime_inputs},
                 {"target", e.target},
                 {"proof", e.proof},
                 {"source_hash", e.source_hash},
                 {"protocol", e.protocol},
                 {"metrics", spec::to_json(e.metrics)}};
  if (e.rows_range) {
    result["rows_range"] = {e.rows_range->lo, e.rows_range->hi};
    result["rows_sampled"] = e.rows_range->sampled;
  }
  if (e.loose) result["loose"] = true;
  return result;
}

bool written_before(const Entry& a, const Entry& b) {
  if (key_before(a, b)) return true;
  if (key_before(b, a)) return false;
  return base::canonical_json(to_json(a)) < base::canonical_json(to_json(b));
}

}  // namespace

base::Json to_json(const Entry& entry) {
  Json result = entry.other;
  result.update(known_of(entry), /*merge_objects=*/true);
  return result;
}

std::string write_text(const Pack& pack) {
  std::vector<Entry> entries = pack.entries;
  std::sort(entries.begin(), entries.end(), written_before);
  Json root = pack.other;
  root["schema_version"] = std::to_string(kNewestSchema);
  root["runtime"] = pack.runtime;
  root["entries"] = Json::array();
  for (const Entry& entry : entries) root["entries"].push_back(to_json(entry));
  return root.dump(2, ' ', /*ensure_ascii=*/true) + "\n";
}

void check_output(const fs::path& path) {
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored))
    base::misuse("packs", "the folder of " + path.string() + " does not exist: create it first");
  if (fs::exists(path, ignored) && !fs::is_regular_file(path, ignored))
    base::misuse("packs", path.string() + " is not a file: give the name of a pack to write");
  if (::access(folder.c_str(), W_OK) != 0)
    base::misuse("packs", "the folder of " + path.string() +
                              " is not writable: choose one that you may write to");
}

void write_pack(const fs::path& path, const Pack& pack) {
  check_output(path);
  base::write_file_atomically(path, write_text(pack), "packs");
}

}  // namespace mlx_kd::packs
