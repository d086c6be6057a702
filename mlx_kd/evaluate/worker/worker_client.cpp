#include "mlx_kd/evaluate/worker/worker_client.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__APPLE__)
#include <mach-o/dyld.h>
#endif

#include <cstring>

#include "mlx_kd/base/error.h"

extern char** environ;

namespace mlx_kd::evaluate {
namespace {

constexpr int kSocket = 3, kMemory = 4;

// A copy of fd beyond the numbers that the worker uses, so that one dup2 cannot hide another.
int moved_up(int fd) {
  return fcntl(fd, F_DUPFD_CLOEXEC, 16);
}

pid_t spawn_worker(const std::string& program, int socket, int memory) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, 2, 1);  // what a kernel prints is not our data
  posix_spawn_file_actions_adddup2(&actions, socket, kSocket);
  posix_spawn_file_actions_adddup2(&actions, memory, kMemory);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  // Of its own group: Ctrl-C reaches the parent alone, which ends the worker in order.
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  std::string name = "kd", verb = "worker", option = "--fd", fd = std::to_string(kSocket);
  char* argv[] = {name.data(), verb.data(), option.data(), fd.data(), nullptr};
  pid_t pid = 0;
  if (posix_spawn(&pid, program.c_str(), &actions, &attributes, argv, environ) != 0) pid = 0;
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  return pid;
}

}  // namespace

std::string running_program() {
#if defined(__APPLE__)
  char path[4096];
  uint32_t size = sizeof path;
  return _NSGetExecutablePath(path, &size) == 0 ? path : "kd";
#else
  return "/proc/self/exe";
#endif
}

WorkerClient::WorkerClient(const std::string& program, int memory_fd, std::atomic<pid_t>& pid)
    : pid_(pid) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
    base::fail("evaluate", "no socket for a worker: close some files");
  fcntl(pair[0], F_SETFD, FD_CLOEXEC), fcntl(pair[1], F_SETFD, FD_CLOEXEC);
#if defined(SO_NOSIGPIPE)
  const int on = 1;
  setsockopt(pair[0], SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#endif
  const int theirs = moved_up(pair[1]), memory = moved_up(memory_fd);
  close(pair[1]);
  fd_ = pair[0];
  pid_ = spawn_worker(program, theirs, memory);
  close(theirs), close(memory);
  reader_ = std::make_unique<LineReader>(fd_);
  if (pid_ == 0) {
    close(fd_);
    base::fail("evaluate", "the worker '" + program + "' cannot be started: build kd again");
  }
}

WorkerClient::~WorkerClient() {
  kill_worker(pid_);
  reap();
  close(fd_);
}

void kill_worker(pid_t pid) {
  if (pid > 0) ::kill(-pid, SIGKILL), ::kill(pid, SIGKILL);
}

// Waits for the process, which has ended or was killed; says how it ended.
std::string WorkerClient::reap() {
  const pid_t pid = pid_.exchange(0);
  int status = 0;
  if (pid <= 0 || waitpid(pid, &status, 0) < 0) return "no process";
  if (WIFSIGNALED(status))
    return "signal " + std::to_string(WTERMSIG(status)) + " (" + strsignal(WTERMSIG(status)) + ")";
  return "exit status " + std::to_string(WEXITSTATUS(status));
}

WorkerClient::Answer WorkerClient::died() {
  // A kernel may have closed the socket and live on.
  for (int i = 0; i < 20; ++i) {
    siginfo_t info = {};
    if (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
        info.si_pid != 0)
      break;
    usleep(10000);
  }
  kill_worker(pid_);
  return {Answer::Kind::died, {}, reap()};
}

WorkerClient::Answer WorkerClient::ask(const base::Json& request, double timeout_s) {
  if (!alive()) return {Answer::Kind::died, {}, "no process"};
  std::string line;
  if (!send_line(fd_, request)) return died();
  const auto outcome = reader_->read(line, timeout_s);
  if (outcome == LineReader::Outcome::closed) return died();
  if (outcome == LineReader::Outcome::timed_out) {
    kill_worker(pid_);
    reap();
    return {Answer::Kind::timed_out, {}, ""};
  }
  base::Json reply = base::Json::parse(line, nullptr, false);
  if (!reply.is_object()) return died();
  if (reply.contains("error"))
    throw base::Error(reply["error"].get<std::string>(), reply.value("exit_code", 1));
  return {Answer::Kind::reply, std::move(reply), ""};
}

}  // namespace mlx_kd::evaluate
