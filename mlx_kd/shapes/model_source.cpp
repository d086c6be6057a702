#include "mlx_kd/shapes/model_source.h"

#include <cstdlib>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/shapes/gguf.h"
#include "mlx_kd/shapes/hub_cache.h"
#include "mlx_kd/shapes/hub_download.h"

namespace mlx_kd::shapes {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxConfigBytes = uint64_t(16) << 20;
constexpr const char* kName = "config.json";

std::string shown(const std::string& text) {
  return "'" + text.substr(0, 120) + "'";
}

bool starts_with(const std::string& text, const char* start) {
  return text.rfind(start, 0) == 0;
}

bool looks_like_a_path(const std::string& id) {
  return starts_with(id, "/") || starts_with(id, "./") || starts_with(id, "../") ||
         starts_with(id, "~") || id == "." || id == ".." || id.find('\\') != id.npos ||
         (id.size() > 5 && id.substr(id.size() - 5) == ".json") ||
         std::count(id.begin(), id.end(), '/') > 1;
}

// Letters, digits, "-", "_" and "."; the hub forbids "--" and "..", which name folders of the
// cache.
bool is_id_part(const std::string& part) {
  constexpr const char* kAllowed =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
  return !part.empty() && part.find_first_not_of(kAllowed) == part.npos &&
         part.find("--") == part.npos && part.find("..") == part.npos &&
         std::string("-.").find(part.front()) == std::string::npos &&
         std::string("-.").find(part.back()) == std::string::npos;
}

void check_revision(const std::string& revision) {
  bool good = !revision.empty() && revision.size() <= 200 && revision.find("..") == revision.npos &&
              revision.front() != '/' && revision.back() != '/';
  for (unsigned char c : revision)
    good = good && (std::isalnum(c) || c == '-' || c == '_' || c == '.' || c == '/' || c == '+');
  if (!good)
    base::misuse("shapes", shown(revision) +
                               " is not a revision: give a branch, a tag or a commit of the model");
}

std::optional<ModelFile> find_local(const std::string& given) {
  const char* home = std::getenv("HOME");
  const fs::path path = starts_with(given, "~/") && home ? home + given.substr(1) : given;
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    if (!fs::exists(path / kName, ignored))
      base::misuse("shapes", "there is no config.json in " + path.string() +
                                 ": give the folder of a model in Hugging Face's form");
    return ModelFile{path / kName, ""};
  }
  if (fs::exists(path, ignored)) return ModelFile{path, ""};
  if (looks_like_a_path(given))
    base::misuse("shapes",
                 "there is no " + path.string() + ": give a model's folder or config.json");
  return std::nullopt;
}

// "https://huggingface.co/ORG/NAME/tree/main" is the model ORG/NAME.
std::string id_of_link(const std::string& given, const std::string& endpoint) {
  for (const std::string& host :
       {endpoint, std::string("https://huggingface.co"), std::string("http://huggingface.co"),
        std::string("huggingface.co")})
    if (!host.empty() && starts_with(given, (host + "/").c_str())) {
      std::string id = given.substr(host.size() + 1);
      id = id.substr(0, id.find_first_of("?#"));
      const size_t slash = id.find('/');
      return slash == id.npos ? id : id.substr(0, id.find('/', slash + 1));
    }
  return given;
}

// Python writes Infinity, -Infinity and NaN, which JSON does not have: as texts they are no sizes.
std::string quoted_literals(const std::string& text) {
  std::string result;
  bool inside = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (inside && text[i] == '\\' && i + 1 < text.size()) {
      result += text[i++];
    } else if (text[i] == '"') {
      inside = !inside;
    } else if (!inside) {
      for (const std::string& word :
           {std::string("-Infinity"), std::string("Infinity"), std::string("NaN")})
        if (text.compare(i, word.size(), word) == 0) {
          result += '"' + word + '"';
          i += word.size();
          break;
        }
      if (i >= text.size()) break;
    }
    result += text[i];
  }
  return result;
}

[[noreturn]] void misuse_not_cached(const ModelRequest& request, const HubSettings& settings) {
  const std::string why =
      request.local_files_only ? "--local-files-only is given" : "HF_HUB_OFFLINE is set";
  base::misuse("shapes", "the cache " + settings.cache.string() + " holds no config.json of " +
                             shown(request.model_id) + " at revision " + shown(request.revision) +
                             ", and " + why + ": allow the network once, or give a folder");
}

}  // namespace

ModelFile find_config(const ModelRequest& given, const HubSettings& settings,
                      const FetchWatch& watch) {
  ModelRequest request = given;
  request.model_id = id_of_link(given.model_id, settings.endpoint);
  if (request.model_id.empty())
    base::misuse("shapes", "--model-id is empty: give a folder or an id such as Qwen/Qwen3-0.6B");
  if (const auto local = find_local(request.model_id)) return *local;
  const size_t slash = request.model_id.find('/');
  const bool good =
      request.model_id.size() <= 96 &&
      (slash == request.model_id.npos ? is_id_part(request.model_id)
                                      : is_id_part(request.model_id.substr(0, slash)) &&
                                            is_id_part(request.model_id.substr(slash + 1)));
  if (!good)
    base::misuse("shapes", shown(request.model_id) +
                               " is not a model: give a folder, a config.json, or an id such as "
                               "mlx-community/Qwen3-30B-A3B-4bit");
  check_revision(request.revision);
  const CachedModel model(settings.cache, request.model_id);
  if (const auto commit = model.commit_of(request.revision))
    if (const auto file = model.file(*commit, kName)) return {*file, *commit};
  if (request.local_files_only || settings.offline) misuse_not_cached(request, settings);
  return fetch(request, kName, model, settings, watch);
}

spec::ModelConfig read_config(const ModelFile& file) {
  const std::string path = file.path.string();
  if (is_gguf(file.path)) return {gguf_config(file.path), path};
  const std::string text = base::read_file(path, "shapes", kMaxConfigBytes);
  return {base::parse_json(quoted_literals(text), "shapes", path), path};
}

}  // namespace mlx_kd::shapes
