// A library to preload: the N-th call of a program that changes a file under a folder fails, or the
// program is killed there. In the environment of the program alone, not of its children:
//
//   FAULT_FOLDER  absolute; other files are left alone
//   FAULT_AT      which call, from 1; 0: none, the calls are counted
//   FAULT_ERRNO   a number: what the call fails with. Left out: the program is killed (SIGKILL)
//   FAULT_WHEN    "before" the call; "after" it, as a server on a network may that answers a call
//                 twice; or "half": after the first half of what write(2) is given, else before
//   FAULT_CLOCK   seconds: every reading of the wall clock is off by up to that, either way
//   FAULT_CALLS   a file that gets the name of each call, one per line, as it happens
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

template <class Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

std::string taken(const char* name) {
  const char* value = std::getenv(name);
  std::string result = value ? value : "";
  ::unsetenv(name);
  return result;
}

struct Plan {
  std::string folder = taken("FAULT_FOLDER"), when = taken("FAULT_WHEN");
  long at = std::atol(taken("FAULT_AT").c_str());
  int error = std::atoi(taken("FAULT_ERRNO").c_str());
  std::string calls = taken("FAULT_CALLS");
  long clock = std::atol(taken("FAULT_CLOCK").c_str());
  std::atomic<long> made = 0;
  Plan() { ::unsetenv("LD_PRELOAD"); }
};

Plan& plan() {
  static Plan* const one = new Plan;
  return *one;
}

// Read before main(), while the environment is as it was given.
const bool is_ready = (plan(), true);

bool concerns(const char* path) {
  const std::string& folder = plan().folder;
  if (folder.empty() || !path) return false;
  char whole[PATH_MAX];
  if (path[0] != '/' && ::getcwd(whole, sizeof whole))
    return (std::string(whole) + "/" + path).rfind(folder, 0) == 0;
  return std::strncmp(path, folder.c_str(), folder.size()) == 0;
}

bool concerns(int fd) {
  char path[PATH_MAX];
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t size = ::readlink(link.c_str(), path, sizeof path - 1);
  if (size <= 0) return false;
  path[size] = 0;
  return path[0] == '/' && concerns(path);
}

void note(const char* name) {
  if (plan().calls.empty()) return;
  const int fd = real<int(const char*, int, ...)>("open")(
      plan().calls.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return;
  const std::string line = std::string(name) + "\n";
  if (real<ssize_t(int, const void*, size_t)>("write")(fd, line.data(), line.size()) < 0) ::abort();
  ::close(fd);
}

// One call that changes a file: passes it on, or not.
template <class Result, class Call, class Half>
Result call(const char* name, bool concerned, const Call& pass_on, const Half& half) {
  if (!concerned) return pass_on();
  note(name);
  Plan& p = plan();
  if (++p.made != p.at) return pass_on();
  if (p.when == "half") half();
  if (p.when == "after") pass_on();
  if (p.error) {
    errno = p.error;
    return Result(-1);
  }
  ::kill(::getpid(), SIGKILL);
  for (;;) ::pause();
}

template <class Result, class Call>
Result call(const char* name, bool concerned, const Call& pass_on) {
  return call<Result>(name, concerned, pass_on, [] {});
}

// `name`: open or open64.
int open_as(const char* name, const char* path, int flags, mode_t mode) {
  const bool changes = (flags & (O_CREAT | O_TRUNC)) || (flags & O_ACCMODE) != O_RDONLY;
  return call<int>("open", changes && concerns(path),
                   [&] { return real<int(const char*, int, ...)>(name)(path, flags, mode); });
}

mode_t mode_of(int flags, va_list arguments) {
  return (flags & O_CREAT) ? static_cast<mode_t>(va_arg(arguments, int)) : 0;
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return open_as("open", path, flags, mode);
}

int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return open_as("open64", path, flags, mode);
}

int mkstemp(char* path) {
  return call<int>("mkstemp", concerns(path), [&] { return real<int(char*)>("mkstemp")(path); });
}

int mkstemp64(char* path) {
  return call<int>("mkstemp", concerns(path), [&] { return real<int(char*)>("mkstemp64")(path); });
}

ssize_t write(int fd, const void* bytes, size_t size) {
  static const auto pass_on = real<ssize_t(int, const void*, size_t)>("write");
  return call<ssize_t>(
      "write", concerns(fd), [&] { return pass_on(fd, bytes, size); },
      [&] { (void)!pass_on(fd, bytes, size / 2); });
}

int fsync(int fd) {
  return call<int>("fsync", concerns(fd), [&] { return real<int(int)>("fsync")(fd); });
}

int fdatasync(int fd) {
  return call<int>("fdatasync", concerns(fd), [&] { return real<int(int)>("fdatasync")(fd); });
}

int flock(int fd, int operation) {
  return call<int>("flock", concerns(fd),
                   [&] { return real<int(int, int)>("flock")(fd, operation); });
}

int fchmod(int fd, mode_t mode) {
  return call<int>("fchmod", concerns(fd),
                   [&] { return real<int(int, mode_t)>("fchmod")(fd, mode); });
}

int rename(const char* from, const char* to) {
  return call<int>("rename", concerns(to),
                   [&] { return real<int(const char*, const char*)>("rename")(from, to); });
}

int mkdir(const char* path, mode_t mode) {
  return call<int>("mkdir", concerns(path),
                   [&] { return real<int(const char*, mode_t)>("mkdir")(path, mode); });
}

int unlink(const char* path) {
  return call<int>("unlink", concerns(path),
                   [&] { return real<int(const char*)>("unlink")(path); });
}

int truncate(const char* path, off_t size) {
  return call<int>("truncate", concerns(path),
                   [&] { return real<int(const char*, off_t)>("truncate")(path, size); });
}

int clock_gettime(clockid_t id, timespec* now) {
  static const auto pass_on = real<int(clockid_t, timespec*)>("clock_gettime");
  static std::atomic<unsigned long> state = 1;
  const int result = pass_on(id, now);
  const long most = plan().clock;
  if (result == 0 && id == CLOCK_REALTIME && most > 0) {
    state = state * 6364136223846793005ul + 1442695040888963407ul;
    now->tv_sec +=
        static_cast<long>((state >> 33) % static_cast<unsigned long>(2 * most + 1)) - most;
  }
  return result;
}

int ftruncate(int fd, off_t size) {
  return call<int>("ftruncate", concerns(fd),
                   [&] { return real<int(int, off_t)>("ftruncate")(fd, size); });
}

}  // extern "C"
