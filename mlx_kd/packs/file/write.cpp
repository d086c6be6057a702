// A pack is one object, keys sorted, ASCII, "\n" at the end; one line per element of `common`,
// `entries` and `sources`:
//
//   schema_version  "4"
//   runtime         {mlx_version, device_name, device_arch, ...}: where it was measured; "mixed"
//                   if the entries come from several
//   common          what many entries share: see compact.h
//   sources         {source_hash: text} of every kernel that is not Metal: see compact.h
//   entries         in the order of key_before, one per key, target, contract and approximate or
//                   not. Opened out, each is an object of
//     key             {op_name, mlx_version, device_arch, device_name, dtype, shape_signature}
//     target          {isa: [..], cores} | {sm}: what the device must have in addition to the key
//     candidate_id, func_name, language ("metal", "cuda", "cpp"), source_hash
//     metal_source    the body of a Metal kernel: such an entry zmlx.kd can load (a whole Metal
//                     file, whose launch_kind begins with metal_, is in `source`)
//     source          the whole file, for every other language: zmlx.kd skips the entry
//     template_params the knobs (also read as `knobs`)
//     launch_params   {launch_kind, and the launch knobs}
//     inputs_spec, outputs_spec   [{name, dtype, shape, strides: "contiguous"}]
//     runtime_inputs  {eps: 1e-06}: the values it was proved with
//     metrics         to_json(Metrics), those that were measured
//     protocol        as spec/protocol_name.h lists: "2"; "v1" for times of zmlx.kd
//     proof           {version, seeds, distributions, reference_bytes, tiny_subnormals, runs,
//                     bit_exact}
//     contract        version of the operator's contract; left out: 1
//     claim_kind      "mlx_cannot"; left out: "faster_than_mlx"
//     approximate     true; left out: false
//     rows_range      [lo, hi] and rows_sampled [..] of the op's batch dim: optional
//     ranges          {dim: [lo, hi]} and sampled {dim: [..]}: optional
//     loose           true if the entry comes from schema 1: "unknown" in its key, and an empty
//                     shape_signature, match anything
//
// Unknown keys of the file, an entry, its key and its metrics are written back as they were read.
#include <unistd.h>

#include <algorithm>
#include <map>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/packs/file/compact.h"
#include "mlx_kd/packs/pack.h"
#include "mlx_kd/packs/ranges.h"

namespace mlx_kd::packs {
namespace {

using base::Json;

Json known_of(const Entry& e) {
  Json result = {
      {"key", spec::to_json(e.key)},
      {"candidate_id", e.candidate_id},
      {"func_name", e.func_name},
      {"language", e.language},
      {spec::is_metal_body(e.language, e.launch_params) ? "metal_source" : "source", e.source},
      {"inputs_spec", e.inputs_spec},
      {"outputs_spec", e.outputs_spec},
      {"template_params", e.knobs},
      {"launch_params", e.launch_params},
      {"runtime_inputs", e.runtime_inputs},
      {"target", e.target},
      {"proof", e.proof},
      {"source_hash", e.source_hash},
      {"protocol", e.protocol},
      {"metrics", spec::to_json(e.metrics)}};
  if (e.contract != 1) result["contract"] = e.contract;
  if (e.claim_kind != ClaimKind::faster_than_mlx) result["claim_kind"] = name_of(e.claim_kind);
  if (e.approximate) result["approximate"] = true;
  write_ranges(e, result);
  if (e.loose) result["loose"] = true;
  return result;
}

// One element per line.
std::string lines_of(const std::vector<std::string>& elements) {
  std::string text;
  for (const std::string& element : elements) text += (text.empty() ? "\n" : ",\n") + element;
  return text;
}

// The members that grow with the entries have one element per line.
std::string member_of(const std::string& name, const Json& value) {
  if (name != "common" && name != "sources") return base::canonical_json(value);
  std::vector<std::string> elements;
  for (const auto& [key, element] : value.items())
    elements.push_back((value.is_object() ? base::canonical_json(key) + ":" : std::string()) +
                       base::canonical_json(element));
  return value.is_object() ? "{" + lines_of(elements) + "}" : "[" + lines_of(elements) + "]";
}

// What is larger could not be read again.
void check_size(uint64_t bytes, uint64_t most) {
  if (bytes > most)
    base::misuse("packs", "the entries take " + std::to_string(bytes >> 20) +
                              " MiB, a pack at most " + std::to_string(most >> 20) +
                              ": split them with kd pack --split-by device,op");
}

// In the order of key_before, then by text. Entries may be const.
template <class Entries>
auto in_order(Entries& entries) {
  using OneEntry = std::remove_reference_t<decltype(entries.front())>;
  std::map<PinOrder, std::vector<OneEntry*>> pins;
  for (OneEntry& entry : entries) pins[order_of(entry)].push_back(&entry);
  std::vector<OneEntry*> result;
  for (auto& [order, list] : pins) {
    if (list.size() > 1)
      std::sort(list.begin(), list.end(), [](const Entry* a, const Entry* b) {
        return base::canonical_json(to_json(*a)) < base::canonical_json(to_json(*b));
      });
    result.insert(result.end(), list.begin(), list.end());
  }
  return result;
}

std::string text_of(const Pack& pack, Compact parts) {
  check_size(parts.open_bytes, kMostOpenBytes);
  Json root = pack.other;
  root["schema_version"] = std::to_string(kNewestSchema);
  root["runtime"] = pack.runtime;
  root["common"] = std::move(parts.common);
  root["entries"] = Json();  // its place
  root["sources"] = std::move(parts.sources);
  std::string text;
  for (const auto& [name, value] : root.items())
    text += (text.empty() ? "{" : ",\n") + base::canonical_json(name) + ":" +
            (name == "entries" ? "[" + lines_of(parts.entries) + "]" : member_of(name, value));
  check_size(text.size(), kMaxPackBytes);
  return text + "}\n";
}

}  // namespace

base::Json to_json(const Entry& entry) {
  Json result = entry.other;
  result.update(known_of(entry), /*merge_objects=*/true);
  return result;
}

std::string write_text(const Pack& pack) {
  Compactor compactor;
  for (const Entry* entry : in_order(pack.entries)) compactor.add(*entry);
  return text_of(pack, compactor.take());
}

std::string write_text(Pack&& pack) {
  Compactor compactor;
  for (Entry* entry : in_order(pack.entries)) {
    compactor.add(*entry);
    *entry = Entry();
  }
  return text_of(pack, compactor.take());
}

void check_output(const fs::path& path) {
  std::error_code ignored;
  fs::path folder = fs::absolute(path, ignored).parent_path();
  while (!fs::exists(folder, ignored) && folder.has_relative_path()) folder = folder.parent_path();
  if (!fs::is_directory(folder, ignored))
    base::misuse("packs",
                 path.string() + " cannot be written: " + folder.string() + " is not a folder");
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
