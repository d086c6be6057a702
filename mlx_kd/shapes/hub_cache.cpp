#include "mlx_kd/shapes/hub_cache.h"

#include <algorithm>
#include <fstream>
#include <system_error>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"

namespace mlx_kd::shapes {
namespace {

namespace fs = std::filesystem;

std::string folder_name(const std::string& model_id) {
  std::string result = "models--";
  for (char c : model_id) result += c == '/' ? "--" : std::string(1, c);
  return result;
}

void make_folder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error)
    base::fail("shapes", "cannot make " + path.string() + " (" + error.message() +
                             "): set HF_HUB_CACHE to a folder that you may write to");
}

// A link where the file system has links, else a copy; by a rename, so that it is whole.
void put(const fs::path& blob, const fs::path& at) {
  const fs::path temporary = at.string() + ".incomplete";
  std::error_code error;
  fs::remove(temporary, error);
  fs::create_symlink(fs::relative(blob, at.parent_path()), temporary, error);
  if (error) fs::copy_file(blob, temporary, fs::copy_options::overwrite_existing, error);
  if (!error) fs::rename(temporary, at, error);
  if (error)
    base::fail("shapes", "cannot write " + at.string() + " (" + error.message() +
                             "): check the room and the rights of HF_HUB_CACHE");
}

}  // namespace

bool is_commit(const std::string& revision) {
  return revision.size() == 40 && revision.find_first_not_of("0123456789abcdef") == revision.npos;
}

CachedModel::CachedModel(const fs::path& cache, const std::string& model_id)
    : cache_(cache), folder_(cache / folder_name(model_id)) {}

std::optional<std::string> CachedModel::commit_of(const std::string& revision) const {
  if (is_commit(revision)) return revision;
  std::ifstream file(folder_ / "refs" / revision);
  std::string commit;
  file >> commit;
  return is_commit(commit) ? std::optional(commit) : std::nullopt;
}

std::optional<fs::path> CachedModel::file(const std::string& commit,
                                          const std::string& name) const {
  const fs::path path = folder_ / "snapshots" / commit / name;
  std::error_code ignored;
  return fs::is_regular_file(path, ignored) ? std::optional(path) : std::nullopt;
}

fs::path CachedModel::incomplete(const std::string& etag) const {
  make_folder(folder_ / "blobs");
  return folder_ / "blobs" / (etag + ".incomplete");
}

fs::path CachedModel::lock(const std::string& etag) const {
  const fs::path folder = cache_ / ".locks" / folder_.filename();
  make_folder(folder);
  return folder / (etag + ".lock");
}

fs::path CachedModel::keep(const std::string& etag, const std::string& commit,
                           const std::string& revision, const std::string& name) const {
  const fs::path blob = folder_ / "blobs" / etag, snapshot = folder_ / "snapshots" / commit;
  std::error_code error;
  if (fs::exists(incomplete(etag), error)) fs::rename(incomplete(etag), blob, error);
  if (error) base::fail("shapes", "cannot write " + blob.string() + " (" + error.message() + ")");
  make_folder(snapshot);
  put(blob, snapshot / name);
  if (!is_commit(revision)) {
    const fs::path reference = folder_ / "refs" / revision;
    make_folder(reference.parent_path());
    base::write_file_atomically(reference, commit, "shapes");
  }
  return snapshot / name;
}

}  // namespace mlx_kd::shapes
