// The Hugging Face cache on disk, shared with the hub's own tools:
//
//   models--ORG--NAME/
//     refs/main                     the commit that the revision `main` was, when last fetched
//     snapshots/COMMIT/config.json  a symbolic link into blobs/, or the file itself
//     blobs/ETAG                    the bytes; ETAG.incomplete while they arrive
//   .locks/models--ORG--NAME/ETAG.lock
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace mlx_kd::shapes {

// One model of the cache. A file of the cache is never taken from outside its folder by `..` in a
// name: model_id and revision are checked before (model_source.h).
class CachedModel {
 public:
  CachedModel(const std::filesystem::path& cache, const std::string& model_id);

  const std::filesystem::path& folder() const { return folder_; }
  // What the revision was when it was last fetched; a whole commit (40 hex digits) is itself.
  std::optional<std::string> commit_of(const std::string& revision) const;
  // The file of a snapshot, if it is there whole.
  std::optional<std::filesystem::path> file(const std::string& commit,
                                            const std::string& name) const;

  // Where the bytes arrive, and the lock that is held meanwhile (the folders are made).
  std::filesystem::path incomplete(const std::string& etag) const;
  std::filesystem::path lock(const std::string& etag) const;
  // Makes what arrived part of the snapshot, and the revision point to it. The bytes are on disk,
  // then the link, then the reference: a process that reads meanwhile sees all or nothing.
  std::filesystem::path keep(const std::string& etag, const std::string& commit,
                             const std::string& revision, const std::string& name) const;

 private:
  std::filesystem::path cache_, folder_;
};

bool is_commit(const std::string& revision);

}  // namespace mlx_kd::shapes
