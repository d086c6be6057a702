// Where a model's config.json comes from: a folder, the Hugging Face cache, or the hub.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <string>

#include "mlx_kd/shapes/hub_settings.h"
#include "mlx_kd/spec/op/model_config.h"

namespace mlx_kd::shapes {

struct ModelRequest {
  // A folder, a config.json, a GGUF file, or ORG/NAME on the hub, also as a link to it.
  std::string model_id;
  std::string revision = "main";  // of the hub: a branch, a tag, a commit
  bool local_files_only = false;  // nothing is fetched
};

// What a fetch tells, and asks. Called from the caller's thread.
struct FetchWatch {
  std::function<void(const std::string&)> note = [](const std::string&) {};
  const std::atomic<bool>* cancelled = nullptr;  // ends a fetch with an error (exit 1)
};

struct ModelFile {
  std::filesystem::path path;
  std::string commit;  // empty for what is local
};

// A path that exists is local. What looks like a path (/, ./, ../, ~/, a name ending in .json) and
// does not exist is misuse. Anything else is an id: a revision that the cache holds is taken from
// there without a look at the network, else it is fetched into the cache. Misuse for an id, a
// revision or a file that is not there; failure (exit 1) where the hub cannot be reached or wants a
// login. Messages say what to do.
ModelFile find_config(const ModelRequest& request, const HubSettings& settings,
                      const FetchWatch& watch = {});

// The config of find_config, read; a GGUF file gives what its keys say (gguf.h). Misuse where it is
// not JSON (but Infinity and NaN are read, as Python writes them), or larger than 16 MiB.
spec::ModelConfig read_config(const ModelFile& file);

}  // namespace mlx_kd::shapes
