// <folder>/<key>/        one entry; key: 64 hex digits, SHA-256 of what decides the object
//   kernel.so            the object
//   record.json          {"sha256": of kernel.so, "compile_ms": .., "op": .., "compiler": ..}; its
//                        time of modification says when the entry was last used
// <folder>/tmp.XXXXXX/   an entry in the making; renamed to its key when it is whole
#include "mlx_kd/devices/host/object_cache.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <vector>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/base/sha256.h"
#include "mlx_kd/devices/host/environment.h"

namespace mlx_kd::devices::cpu {
namespace {

using Clock = fs::file_time_type::clock;
constexpr auto kInUse = std::chrono::minutes(1);    // an entry this young is never trimmed
constexpr auto kAbandoned = std::chrono::hours(1);  // a scratch folder this old has no process
constexpr uint64_t kLargestObject = uint64_t(64) << 20;

fs::path default_root() {
  const std::string own = env_text("MLX_KD_CACHE_DIR");
  if (!own.empty()) return fs::absolute(own);
  const std::string xdg = env_text("XDG_CACHE_HOME");
  if (!xdg.empty()) return fs::absolute(fs::path(xdg) / "mlx-kd");
  const std::string home = env_text("HOME");
  if (!home.empty()) return fs::absolute(fs::path(home) / ".cache" / "mlx-kd");
  base::misuse("devices",
               "there is no place for compiled kernels, HOME is not set: set "
               "MLX_KD_CACHE_DIR to a folder of yours");
}

[[noreturn]] void refuse(const fs::path& folder, const std::string& why) {
  base::misuse("devices", "the kernel cache " + folder.string() + " " + why +
                              ": correct that, or set MLX_KD_CACHE_DIR to a folder of yours");
}

void make_folder(const fs::path& folder) {
  std::error_code error;
  if (folder.has_parent_path()) fs::create_directories(folder.parent_path(), error);
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    refuse(folder, "cannot be made (" + std::string(std::strerror(errno)) + ")");
}

void check_private(const fs::path& folder) {
  struct stat info {};
  if (::lstat(folder.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) refuse(folder, "is no folder");
  if (info.st_uid != ::geteuid()) refuse(folder, "belongs to another user");
  if (info.st_mode & 077) refuse(folder, "is open to others (chmod 700)");
  if (::access(folder.c_str(), W_OK | X_OK) != 0) refuse(folder, "cannot be written");
}

// A plain file of the user's own that no other user may write.
bool is_own_file(const fs::path& path) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && info.st_uid == ::geteuid() &&
         !(info.st_mode & 022);
}

std::string read_quietly(const fs::path& path) {
  try {
    return is_own_file(path) ? base::read_file(path, "devices", kLargestObject) : "";
  } catch (const base::Error&) {
    return "";  // removed by another process in between
  }
}

// The record of an entry whose object has the content that the record names.
std::optional<base::Json> whole_record(const fs::path& entry) {
  const base::Json record = base::Json::parse(read_quietly(entry / "record.json"), nullptr, false);
  if (!record.is_object() || !record.contains("sha256")) return std::nullopt;
  const std::string object = read_quietly(entry / "kernel.so");
  if (object.empty() || record["sha256"] != base::sha256_hex(object)) return std::nullopt;
  return record;
}

CachedObject object_of(const fs::path& entry, const base::Json& record) {
  const auto time = record.find("compile_ms");
  return {entry / "kernel.so", time != record.end() && time->is_number() ? time->get<double>() : 0};
}

// Out of sight first, so that no process finds half an entry.
void remove_entry(const fs::path& entry) {
  const fs::path aside = entry.parent_path() / ("tmp.gone." + entry.filename().string() + "." +
                                                std::to_string(::getpid()));
  std::error_code error;
  fs::rename(entry, aside, error);
  fs::remove_all(error ? entry : aside, error);
}

struct Entry {
  fs::path path;
  Clock::time_point used;
  int64_t bytes;
};

bool is_key(const std::string& name) {
  return name.size() == 64 && name.find_first_not_of("0123456789abcdef") == std::string::npos;
}

int64_t size_or_zero(const fs::path& file) {
  std::error_code error;
  const auto size = fs::file_size(file, error);
  return error ? 0 : static_cast<int64_t>(size);
}

std::vector<Entry> entries_of(const fs::path& folder) {
  std::vector<Entry> entries;
  std::error_code error;
  for (const auto& item : fs::directory_iterator(folder, error)) {
    if (!is_key(item.path().filename().string())) continue;
    const auto used = fs::last_write_time(item.path() / "record.json", error);
    entries.push_back(
        {item.path(), error ? Clock::time_point::min() : used,
         size_or_zero(item.path() / "kernel.so") + size_or_zero(item.path() / "record.json")});
  }
  return entries;
}

void remove_abandoned(const fs::path& folder) {
  std::error_code error;
  for (const auto& item : fs::directory_iterator(folder, error)) {
    if (item.path().filename().string().rfind("tmp.", 0) != 0) continue;
    const auto made = fs::last_write_time(item.path(), error);
    if (!error && Clock::now() - made > kAbandoned) fs::remove_all(item.path(), error);
  }
}

}  // namespace

Scratch::Scratch(const fs::path& parent) {
  std::string name = (parent / "tmp.XXXXXX").string();
  if (!::mkdtemp(name.data()))
    base::fail("devices", "cannot write in " + parent.string() + " (" + std::strerror(errno) +
                              "): free some space, or set MLX_KD_CACHE_DIR to another disk");
  folder_ = name;
}

Scratch::~Scratch() {
  std::error_code error;
  fs::remove_all(folder_, error);
}

ObjectCache ObjectCache::from_environment() {
  return ObjectCache(default_root(), env_mib("MLX_KD_CACHE_MAX_MB", 512));
}

ObjectCache::ObjectCache(const fs::path& root, int64_t max_bytes)
    : folder_(root / "cpu"), max_bytes_(max_bytes) {
  make_folder(root);
  // The root may be a link and may be read by others; no other user may put things there.
  struct stat info {};
  if (::stat(root.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) refuse(root, "is no folder");
  if (info.st_uid != ::geteuid()) refuse(root, "belongs to another user");
  if (info.st_mode & 022) refuse(root, "can be written by others (chmod go-w)");
  make_folder(folder_);
  check_private(folder_);
}

std::optional<CachedObject> ObjectCache::find(const std::string& key) const {
  const fs::path entry = folder_ / key;
  std::error_code error;
  if (!fs::exists(fs::symlink_status(entry, error))) return std::nullopt;
  if (const auto record = whole_record(entry)) {
    fs::last_write_time(entry / "record.json", Clock::now(), error);
    return object_of(entry, *record);
  }
  // It may have been trimmed while it was read.
  if (!fs::exists(fs::symlink_status(entry, error))) return std::nullopt;
  static std::atomic_flag said;
  if (!said.test_and_set())
    std::fprintf(stderr, "[devices] %s is not what was compiled: it is compiled again\n",
                 entry.c_str());
  remove_entry(entry);
  return std::nullopt;
}

CachedObject ObjectCache::publish(const Scratch& scratch, const std::string& key, double compile_ms,
                                  const base::Json& about) const {
  base::Json record = about;
  record["sha256"] = base::sha256_hex(base::read_file(scratch.object(), "devices", kLargestObject));
  record["compile_ms"] = compile_ms;
  std::ofstream file(scratch.folder() / "record.json", std::ios::binary);
  file << base::canonical_json(record) << "\n";
  file.close();
  if (!file)
    base::fail("devices", "cannot write in " + scratch.folder().parent_path().string() +
                              ": free some space, or set MLX_KD_CACHE_DIR to another disk");
  std::error_code error;
  fs::permissions(scratch.object(), fs::perms::owner_all, error);  // whatever the umask left
  fs::permissions(scratch.folder() / "record.json", fs::perms::owner_read | fs::perms::owner_write,
                  error);
  fs::remove(scratch.source(), error);

  static std::atomic<unsigned> published{0};
  if (published.fetch_add(1) % 64 == 0) trim();
  const fs::path entry = folder_ / key;
  for (int attempt = 0; attempt < 3; ++attempt) {
    if (::rename(scratch.folder().c_str(), entry.c_str()) == 0) return object_of(entry, record);
    if (const auto other = find(key)) return *other;
  }
  base::fail("devices", "cannot put an object into " + folder_.string() +
                            ": kd cache --clear, then try again");
}

bool ObjectCache::holds(const fs::path& object) const {
  const fs::path entry = object.parent_path();
  return object.filename() == "kernel.so" && entry.parent_path() == folder_ &&
         is_key(entry.filename().string()) && whole_record(entry).has_value();
}

CacheUsage ObjectCache::usage() const {
  CacheUsage usage;
  for (const Entry& entry : entries_of(folder_)) {
    ++usage.entries;
    usage.bytes += entry.bytes;
  }
  return usage;
}

CacheUsage ObjectCache::clear() const {
  const CacheUsage before = usage();
  for (const Entry& entry : entries_of(folder_)) remove_entry(entry.path);
  remove_abandoned(folder_);
  return before;
}

void ObjectCache::trim() const {
  remove_abandoned(folder_);
  auto entries = entries_of(folder_);
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.used < b.used; });
  int64_t bytes = 0;
  for (const Entry& entry : entries) bytes += entry.bytes;
  for (const Entry& entry : entries) {
    if (bytes <= max_bytes_ || Clock::now() - entry.used < kInUse) return;
    remove_entry(entry.path);
    bytes -= entry.bytes;
  }
}

}  // namespace mlx_kd::devices::cpu
