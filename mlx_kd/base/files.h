// Files: whole or not at all.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace mlx_kd::base {

namespace fs = std::filesystem;

// The whole file. Misuse (room named) if it cannot be opened or is larger than max_bytes.
std::string read_file(const fs::path& path, const std::string& room,
                      uint64_t max_bytes = uint64_t(1) << 30);

// Letters and digits in small, everything between them one "-": "AMD EPYC (x)" is "amd-epyc-x".
// What is in `kept` stays as it is. Empty if nothing is left.
std::string file_word(std::string_view text, std::string_view kept = "");

// Creates the folders that the file is to be in, where they are missing. Fails (exit 1) with the
// reason of the system.
void make_parent(const fs::path& path, const std::string& room);

// make_parent, then a temporary file in the same folder, fsync, rename, fsync of the folder: a
// reader sees the old text or the new one. Fails (exit 1) with the reason of the system, the
// temporary file removed.
void write_file_atomically(const fs::path& path, std::string_view bytes, const std::string& room);

// A new folder in the system's place for temporary files, removed with what is in it. Fails (exit
// 1) if none can be made, naming that place.
class ScratchFolder {
 public:
  explicit ScratchFolder(const std::string& room);
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder();
  fs::path file(const std::string& name) const { return path_ / name; }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

// Exclusive advisory lock on `path` (created if absent, with its folder) for as long as the object
// lives; released by the system if the process dies. Movable.
class FileLock {
 public:
  // nullopt if another process holds it.
  static std::optional<FileLock> try_take(const fs::path& path, const std::string& room);
  // Waits for it.
  static FileLock take(const fs::path& path, const std::string& room);
  FileLock(FileLock&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_;
};

// Appends whole records to one file; each append is one write(2) followed by fdatasync, so a reader
// or a crash sees a prefix of records. Fails (exit 1) on a full disk, cutting the file back to the
// last whole record.
class AppendFile {
 public:
  AppendFile(const fs::path& path, const std::string& room);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;
  void append(std::string_view record);

 private:
  fs::path path_;
  std::string room_;
  int fd_;
};

}  // namespace mlx_kd::base
