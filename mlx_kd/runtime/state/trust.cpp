#include "mlx_kd/runtime/state/trust.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <list>
#include <memory>

#include "mlx_kd/base/error.h"
#include "mlx_kd/packs/pack.h"

namespace mlx_kd::runtime {
namespace {

namespace fs = std::filesystem;

constexpr int kMostLinks = 40;  // as the kernel allows
#ifdef O_PATH
constexpr int kLook = O_PATH | O_CLOEXEC | O_NOFOLLOW;  // needs no right to read
#else
constexpr int kLook = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
#endif

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

[[noreturn]] void refuse(const std::string& path, const std::string& why,
                         const std::string& advice) {
  base::misuse("runtime", "the pack " + path + " is not loaded: " + why + "; " + advice);
}

bool is_ours(const struct stat& info) {
  return info.st_uid == 0 || info.st_uid == ::geteuid();
}

struct stat look(int fd) {
  struct stat info {};
  ::fstat(fd, &info);
  return info;
}

// Walks a path from the root, one name at a time.
class Walk {
 public:
  explicit Walk(const fs::path& path) : path_(path.string()) {
    push_front(fs::absolute(path));
    folder_ = Descriptor(::open("/", kLook | O_DIRECTORY));
    at_ = "/";
    check_folder();
  }

  // The file at its end, opened for reading.
  Descriptor open() {
    while (!names_.empty()) {
      const std::string name = names_.front();
      names_.pop_front();
      if (name.empty() || name == "." || name == "/") continue;
      if (name == "..") {
        enter(name);  // the parent of a folder that was checked on the way is checked again
      } else if (!take_link(name)) {
        if (names_.empty()) return open_file(name);
        enter(name);
      }
    }
    refuse(path_, "it is a folder", "name a file");
  }

 private:
  void push_front(const fs::path& path) {
    auto before = names_.begin();
    for (const fs::path& name : path) names_.insert(before, name.string());
  }

  void check_folder() const {
    const struct stat info = look(folder_.get());
    if (!is_ours(info)) refuse(path_, "the folder " + at_ + " belongs to another user", advice());
    if ((info.st_mode & 022) && !(info.st_mode & S_ISVTX))
      refuse(path_, "the folder " + at_ + " can be written by others",
             "chmod go-w " + at_ + ", or move it");
  }

  void enter(const std::string& name) {
    Descriptor next(::openat(folder_.get(), name.c_str(), kLook | O_DIRECTORY));
    if (next.get() < 0) missing();
    folder_ = std::move(next);
    at_ = (fs::path(at_) / name).lexically_normal().string();
    check_folder();
  }

  // Whether the name is a symbolic link: then its target is walked in its place.
  bool take_link(const std::string& name) {
    struct stat info {};
    if (::fstatat(folder_.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) missing();
    if (!S_ISLNK(info.st_mode)) return false;
    if (!is_ours(info))
      refuse(path_, "the link " + (fs::path(at_) / name).string() + " belongs to another user",
             advice());
    if (++links_ > kMostLinks) refuse(path_, "its links go in a circle", "name the file itself");
    char target[PATH_MAX];
    const ssize_t length = ::readlinkat(folder_.get(), name.c_str(), target, sizeof target);
    if (length <= 0 || length >= static_cast<ssize_t>(sizeof target)) missing();
    const fs::path path(std::string(target, static_cast<size_t>(length)));
    push_front(path);
    if (path.is_absolute()) {
      folder_ = Descriptor(::open("/", kLook | O_DIRECTORY));
      at_ = "/";
    }
    return true;
  }

  Descriptor open_file(const std::string& name) const {
    Descriptor file(
        ::openat(folder_.get(), name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (file.get() < 0) missing();
    const struct stat info = look(file.get());
    if (!S_ISREG(info.st_mode)) refuse(path_, "it is not a regular file", "name a file");
    if (!is_ours(info)) refuse(path_, "it belongs to another user", advice());
    if (info.st_mode & 022) refuse(path_, "others can write it", "chmod go-w it");
    return file;
  }

  [[noreturn]] void missing() const { refuse(path_, std::strerror(errno), "check the path"); }

  static std::string advice() {
    return "copy it to a folder of yours, or see docs/security.md for MLX_KD_TRUST";
  }

  const std::string path_;  // as the user gave it
  std::list<std::string> names_;
  Descriptor folder_{-1};
  std::string at_;
  int links_ = 0;
};

Descriptor open_untrusted(const fs::path& path) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) refuse(path.string(), std::strerror(errno), "check the path");
  if (!S_ISREG(look(file.get()).st_mode))
    refuse(path.string(), "it is not a regular file", "name a file");
  return file;
}

std::string read_all(const Descriptor& file, const std::string& path) {
  std::string text;
  const auto buffer = std::make_unique<char[]>(1 << 16);
  for (ssize_t n = 0; (n = ::read(file.get(), buffer.get(), 1 << 16)) != 0;) {
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) refuse(path, std::strerror(errno), "check the disk");
    text.append(buffer.get(), static_cast<size_t>(n));
    if (text.size() > packs::kMaxPackBytes)
      refuse(path, "it is larger than " + std::to_string(packs::kMaxPackBytes) + " bytes",
             "split it");
  }
  return text;
}

}  // namespace

std::string trusted_text(const fs::path& path, Trust trust) {
  const std::string text = path.string();
  if (text.empty() || text.find('\0') != std::string::npos)
    refuse("'" + text.substr(0, text.find('\0')) + "'", "that is not a path", "name a file");
  const Descriptor file = trust == Trust::owner ? Walk(path).open() : open_untrusted(path);
  return read_all(file, text);
}

}  // namespace mlx_kd::runtime
