// Compiled objects on disk, shared by all processes of one user.
//
// Place: $MLX_KD_CACHE_DIR, else $XDG_CACHE_HOME/mlx-kd, else ~/.cache/mlx-kd; the objects lie in
// its folder `cpu`. That folder is private: owned by the user, mode 0700, no symbolic link;
// anything else is refused. Format: object_cache.cpp.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "mlx_kd/base/json.h"

namespace mlx_kd::devices::cpu {

namespace fs = std::filesystem;

struct CachedObject {
  fs::path path;
  double compile_ms = 0;
};

struct CacheUsage {
  int64_t entries = 0, bytes = 0;
};

// A new private folder inside the cache, removed with what is left in it.
class Scratch {
 public:
  explicit Scratch(const fs::path& parent);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  fs::path source() const { return folder_ / "kernel.cpp"; }
  fs::path object() const { return folder_ / "kernel.so"; }
  const fs::path& folder() const { return folder_; }

 private:
  fs::path folder_;
};

// Safe with several threads and processes: an entry appears whole or not at all.
class ObjectCache {
 public:
  // By the environment; MLX_KD_CACHE_MAX_MB (512) bounds it. Misuse if the place cannot be trusted.
  static ObjectCache from_environment();

  // Makes the folders that are missing. Misuse if one cannot be made or is not private.
  ObjectCache(const fs::path& root, int64_t max_bytes);

  // The object of a key, if it is there and its content is what was stored. One that was changed is
  // removed, and that is reported once per process on stderr.
  std::optional<CachedObject> find(const std::string& key) const;

  // Moves scratch.object() into the cache. If another process was faster, its object is kept and
  // returned. Trims the cache from time to time: least recently used first, none that was used in
  // the last minute (a process may be about to load it).
  CachedObject publish(const Scratch& scratch, const std::string& key, double compile_ms,
                       const base::Json& about) const;

  // Whether `object` is an entry of this cache with the content that was stored.
  bool holds(const fs::path& object) const;

  CacheUsage usage() const;
  CacheUsage clear() const;  // what was removed
  void trim() const;
  const fs::path& folder() const { return folder_; }
  int64_t max_bytes() const { return max_bytes_; }

 private:
  fs::path folder_;
  int64_t max_bytes_;
};

}  // namespace mlx_kd::devices::cpu
