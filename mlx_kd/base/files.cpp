#include "mlx_kd/base/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <cstring>

#include "mlx_kd/base/error.h"

namespace mlx_kd::base {
namespace {

std::string system_reason() {
  return std::strerror(errno);
}

// Writes all bytes to fd; false (errno set) if the system refuses.
bool write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

void sync_folder(const fs::path& folder) {
  const int fd = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;  // some file systems do not let a folder be opened; the rename itself is done
  ::fsync(fd);
  ::close(fd);
}

int open_lock(const fs::path& path, const std::string& room) {
  make_parent(path, room);
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0)
    misuse(room, "cannot lock " + path.string() + " (" + system_reason() +
                     "): choose a folder you may write to");
  return fd;
}

[[noreturn]] void fail_to_lock(const fs::path& path, const std::string& room) {
  fail(room, "cannot lock " + path.string() + " (" + system_reason() + "): use a local disk");
}

}  // namespace

std::string read_file(const fs::path& path, const std::string& room, uint64_t max_bytes) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    misuse(room, "cannot read " + path.string() + " (" + system_reason() + "): check the path");
  struct stat info {};
  ::fstat(fd, &info);
  if (S_ISDIR(info.st_mode) || static_cast<uint64_t>(info.st_size) > max_bytes) {
    ::close(fd);
    misuse(room,
           path.string() +
               (S_ISDIR(info.st_mode) ? " is a folder"
                                      : " is larger than " + std::to_string(max_bytes) + " bytes") +
               ": name a file");
  }
  std::string text;
  char buffer[1 << 16];
  ssize_t n = 0;
  while ((n = ::read(fd, buffer, sizeof buffer)) > 0 && text.size() <= max_bytes)
    text.append(buffer, static_cast<size_t>(n));
  ::close(fd);
  return text;
}

std::string file_word(std::string_view text, std::string_view kept) {
  std::string result;
  for (const char c : text) {
    const auto letter = static_cast<unsigned char>(c);
    if ((letter < 128 && std::isalnum(letter)) || kept.find(c) != kept.npos)
      result += static_cast<char>(std::tolower(letter));
    else if (!result.empty() && result.back() != '-')
      result += '-';
  }
  while (!result.empty() && result.back() == '-') result.pop_back();
  return result;
}

void make_parent(const fs::path& path, const std::string& room) {
  if (!path.has_parent_path()) return;
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  if (error)
    fail(room, "cannot create the folder " + path.parent_path().string() + " (" + error.message() +
                   "): choose another place");
}

void write_file_atomically(const fs::path& path, std::string_view bytes, const std::string& room) {
  make_parent(path, room);
  std::string temporary = path.string() + ".XXXXXX";
  const int fd = ::mkstemp(temporary.data());
  if (fd < 0)
    fail(room, "cannot write " + path.string() + " (" + system_reason() +
                   "): check the folder and its rights");
  const mode_t mask = ::umask(0);
  ::umask(mask);
  const bool written = write_all(fd, bytes) && ::fchmod(fd, 0644 & ~mask) == 0 && ::fsync(fd) == 0;
  const int kept = errno;
  ::close(fd);
  if (!written || ::rename(temporary.c_str(), path.c_str()) != 0) {
    if (!written) errno = kept;
    const std::string reason = system_reason();
    ::unlink(temporary.c_str());
    fail(room, "cannot write " + path.string() + " (" + reason + "): nothing was changed");
  }
  sync_folder(path.parent_path());
}

std::optional<FileLock> FileLock::try_take(const fs::path& path, const std::string& room) {
  const int fd = open_lock(path, room);
  while (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    const int code = errno;
    ::close(fd);
    if (code == EWOULDBLOCK) return std::nullopt;
    errno = code;
    fail_to_lock(path, room);
  }
  return FileLock(fd);
}

FileLock FileLock::take(const fs::path& path, const std::string& room) {
  const int fd = open_lock(path, room);
  while (::flock(fd, LOCK_EX) != 0) {
    if (errno == EINTR) continue;
    const int code = errno;
    ::close(fd);
    errno = code;
    fail_to_lock(path, room);
  }
  return FileLock(fd);
}

ScratchFolder::ScratchFolder(const std::string& room) {
  std::string name = (fs::temp_directory_path() / ("kd-" + room + "-XXXXXX")).string();
  if (!::mkdtemp(name.data()))
    fail(room, "no folder can be made in " + fs::temp_directory_path().string() + " (" +
                   system_reason() + "): free some space there, or set TMPDIR");
  path_ = name;
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}

AppendFile::AppendFile(const fs::path& path, const std::string& room)
    : path_(path),
      room_(room),
      fd_(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) {
  if (fd_ < 0)
    fail(room, "cannot append to " + path.string() + " (" + system_reason() +
                   "): check the folder and its rights");
}

AppendFile::~AppendFile() {
  if (fd_ >= 0) ::close(fd_);
}

void AppendFile::append(std::string_view record) {
  struct stat before {};
  ::fstat(fd_, &before);
  if (write_all(fd_, record) && ::fdatasync(fd_) == 0) return;
  const std::string reason = system_reason();
  if (::ftruncate(fd_, before.st_size) != 0) { /* the reader repairs a cut last line */
  }
  fail(room_, "cannot append to " + path_.string() + " (" + reason +
                  "): free some space; what was written is whole");
}

}  // namespace mlx_kd::base
