#include "mlx_kd/packs/file/compact.h"

#include "mlx_kd/base/error.h"
#include "mlx_kd/packs/fields.h"
#include "mlx_kd/packs/pack.h"

namespace mlx_kd::packs {
namespace {

using base::Json;

// Members that entries of one device, op and protocol share.
constexpr const char* kShared[] = {"language", "proof", "protocol", "runtime_inputs", "target"};

}  // namespace

void Compactor::add(const Entry& entry) {
  Json json = to_json(entry);
  if (!spec::is_metal_body(entry.language, entry.launch_params)) {
    move_shared(json);
    if (list_source(entry)) {
      json.erase("source");
      result_.open_bytes += entry.source.size();
    }
  }
  result_.entries.push_back(base::canonical_json(json));
}

void Compactor::move_shared(Json& json) {
  Json shared = Json::object();
  for (const char* name : kShared) {
    shared[name] = std::move(json[name]);
    json.erase(name);
  }
  const auto [at, is_new] =
      places_.try_emplace(base::canonical_json(shared), result_.common.size());
  result_.open_bytes += at->first.size();
  if (is_new) result_.common.push_back(std::move(shared));
  json["common"] = at->second;
}

// False where the entry states another hash than that of its source, which a hand may have
// changed.
bool Compactor::list_source(const Entry& entry) {
  const auto at = languages_.find(entry.source_hash);
  if (at != languages_.end())
    return at->second == entry.language && result_.sources[entry.source_hash] == entry.source;
  if (source_hash_of(entry) != entry.source_hash) return false;
  languages_[entry.source_hash] = entry.language;
  result_.sources[entry.source_hash] = entry.source;
  return true;
}

Opener::Opener(const Json& root, uint64_t most_bytes)
    : common_(&list_in(root, "common")),
      sources_(&object_in(root, "sources")),
      most_bytes_(most_bytes) {
  for (const Json& shared : *common_) common_bytes_.push_back(base::canonical_json(shared).size());
}

Json Opener::open(Json raw) {
  if (!raw.is_object()) damaged("it is not an object");
  add_common(raw);
  add_source(raw);
  return raw;
}

void Opener::add_common(Json& entry) {
  const auto given = entry.find("common");
  if (given == entry.end()) return;
  if (!given->is_number_unsigned() || *given >= common_->size())
    damaged("its 'common' is not one of the " + std::to_string(common_->size()) +
            " that the file has");
  const auto index = given->get<size_t>();
  const Json& shared = (*common_)[index];
  const std::string what = "number " + std::to_string(index) + " of the file's 'common'";
  if (!shared.is_object()) damaged(what + " is not an object");
  if (shared.contains("common")) damaged(what + " refers to another one");
  count(common_bytes_[index]);
  entry.erase(given);
  for (const auto& [name, value] : shared.items())
    if (!entry.contains(name)) entry[name] = value;
}

void Opener::add_source(Json& entry) {
  const Json language = entry.value("language", Json()), hash = entry.value("source_hash", Json());
  const Json launch = entry.value("launch_params", Json());
  if (entry.contains("source") || !language.is_string() || !hash.is_string() ||
      spec::is_metal_body(language, launch))
    return;
  const auto found = sources_->find(hash.get<std::string>());
  const std::string what = "source '" + hash.get<std::string>().substr(0, 64) + "'";
  if (found == sources_->end()) damaged("its " + what + " is not among the file's 'sources'");
  if (!found->is_string()) damaged("the " + what + " is not a text");
  count(found->get_ref<const std::string&>().size());
  spec::Candidate candidate;
  candidate.language = language;
  candidate.source = *found;
  if (checked_.emplace(candidate.language, hash).second &&
      candidate.source_hash() != hash.get_ref<const std::string&>())
    damaged("the text of " + what + " is another one's: its hash differs");
  entry["source"] = std::move(candidate.source);
}

void Opener::count(size_t bytes) {
  bytes_ += bytes;
  if (bytes_ > most_bytes_)
    base::misuse("packs", "the entries up to it take more than " +
                              std::to_string(most_bytes_ >> 20) + " MiB: split the file");
}

}  // namespace mlx_kd::packs
