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

#include <algorithm>
#include <cstring>
#include <random>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/process_tree.h"

extern char** environ;

namespace mlx_kd::evaluate {
namespace {

constexpr int kSocket = 3, kMemory = 4;

// A copy of fd beyond the numbers that the worker uses, so that one dup2 cannot hide another.
int moved_up(int fd) {
  return fcntl(fd, F_DUPFD_CLOEXEC, 16);
}

// A random word of up to 40 digits, which a kernel cannot guess.
std::string random_word() {
  std::random_device device;
  std::string word;
  for (int i = 0; i < 4; ++i) word += std::to_string(device());
  return word;
}

// `mark`: an entry of the worker's environment, by which it and what it starts are found.
pid_t spawn_worker(const std::string& program, std::vector<std::string> words, int socket,
                   int memory, std::string& mark) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);  // a kernel may print
  posix_spawn_file_actions_adddup2(&actions, socket, kSocket);
  posix_spawn_file_actions_adddup2(&actions, memory, kMemory);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  // Of its own group: Ctrl-C reaches the parent alone, which ends the worker in order.
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::vector<char*> variables;
  for (char** entry = environ; *entry; ++entry) variables.push_back(*entry);
  variables.insert(variables.end(), {mark.data(), nullptr});
  pid_t pid = 0;
  if (posix_spawn(&pid, program.c_str(), &actions, &attributes, argv.data(), variables.data()) != 0)
    pid = 0;
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

WorkerClient::WorkerClient(const std::string& program, int memory_fd, std::atomic<pid_t>& pid,
                           const std::vector<std::string>& command)
    : pid_(pid),
      memory_fd_(memory_fd),
      signature_(random_word()),
      mark_("MLX_KD_WORKER=" + random_word()) {
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
  std::vector<std::string> words = command;
  words.push_back(command.empty() ? "kd" : program);
  words.insert(words.end(), {"worker", "--fd", std::to_string(kSocket)});
  pid_ = spawn_worker(command.empty() ? program : command.front(), words, theirs, memory, mark_);
  close(theirs), close(memory);
  reader_ = std::make_unique<LineReader>(fd_);
  if (pid_ == 0) {
    close(fd_);
    base::fail("evaluate", "the worker '" + program + "' cannot be started: build kd again");
  }
}

WorkerClient::~WorkerClient() {
  end();
  close(fd_);
}

void WorkerClient::end() {
  if (!alive()) return;
  kill_worker(pid_);
  reap();
  base::end_processes_with(mark_);
}

void WorkerClient::finish(double timeout_s) {
  if (!alive()) return;
  shutdown(fd_, SHUT_RDWR);
  const int64_t start = base::steady_ns();
  siginfo_t info = {};
  while (base::seconds_since(start) < timeout_s && info.si_pid == 0 &&
         waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0)
    usleep(10000);
  end();
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
  const std::string how = reap();
  base::end_processes_with(mark_);
  return {Answer::Kind::died, {}, how};
}

WorkerClient::Answer WorkerClient::forged() {
  end();
  return {Answer::Kind::died, {}, "it wrote an answer of its own to the socket of its worker"};
}

WorkerClient::Answer WorkerClient::ask(const base::Json& request, double timeout_s) {
  if (!alive()) return {Answer::Kind::died, {}, "no process"};
  if (!send_line(fd_, request)) return died();
  const int64_t start = base::steady_ns();
  while (true) {
    std::string line;
    const double left_s = std::max(0.0, timeout_s - base::seconds_since(start));
    const auto outcome = reader_->read(line, timeout_s < 0 ? timeout_s : left_s);
    if (outcome == LineReader::Outcome::closed) return died();
    if (outcome == LineReader::Outcome::timed_out) {
      end();
      return {Answer::Kind::timed_out, {}, ""};
    }
    base::Json reply = base::Json::parse(line, nullptr, false);
    if (!reply.is_object() || reply.value("signature", base::Json()) != signature_) return forged();
    if (reply.contains("error"))
      throw base::Error(reply["error"].get<std::string>(), reply.value("exit_code", 1));
    if (!reply.contains("need")) return {Answer::Kind::reply, std::move(reply), ""};
    if (!send_descriptor(fd_, memory_fd_)) return died();
  }
}

}  // namespace mlx_kd::evaluate
