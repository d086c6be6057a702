#include "mlx_kd/evaluate/worker/worker_host.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <utility>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/files.h"
#include "mlx_kd/evaluate/worker/sanitizer.h"

namespace mlx_kd::evaluate {
namespace {

namespace fs = std::filesystem;

constexpr int kMemoryFd = 4;
constexpr double kToEnd = 60;  // s, for a log to be written
constexpr double kForEver = -1;

}  // namespace

WorkerHost::WorkerHost(const Setup& setup, const std::string& program, int64_t memory_bytes)
    : setup_(setup),
      program_(program.empty() ? running_program() : program),
      memory_(SharedMemory::create(memory_bytes)) {}

void WorkerHost::spawn(const std::vector<std::string>& command) {
  worker_.reset();
  // Another program would be its own /proc/self/exe.
  std::error_code error;
  const auto file = fs::read_symlink(program_, error);
  const std::string program = command.empty() || error ? program_ : file.string();
  worker_ = std::make_unique<WorkerClient>(program, memory_.fd(), pid_, command);
  const base::Json bandwidth = bandwidth_ ? to_json(*bandwidth_) : base::Json();
  must({{"do", "setup"},
        {"setup", to_json(setup_)},
        {"signature", worker_->signature()},
        {"memory_fd", kMemoryFd},
        {"bandwidth", bandwidth}},
       "setting it up");
}

// For what has to succeed, and takes the time it takes. Null after interrupt().
base::Json WorkerHost::must(const base::Json& request, const std::string& what) {
  auto answer = worker_->ask(request, kForEver);
  if (answer.kind == WorkerClient::Answer::Kind::reply) return std::move(answer.reply);
  if (interrupted_) return {};
  base::fail("evaluate", "the worker '" + program_ + "' ended while " + what + " (" +
                             answer.reason + "): run kd doctor");
}

WorkerClient::Answer WorkerHost::ask(const base::Json& request, double timeout_s) {
  if (!interrupted_ && (!worker_ || !worker_->alive())) spawn();
  // An interrupt between the check and the spawn found no process to end.
  if (interrupted_) worker_.reset();
  if (!worker_) return {WorkerClient::Answer::Kind::died, {}, "interrupted"};
  return worker_->ask(request, timeout_s);
}

WorkerClient::Answer WorkerHost::ask_watched(const base::Json& request, double timeout_s,
                                             const std::string& sanitizer, std::string& log) {
  std::string file = (fs::temp_directory_path() / "kd_sanitizer_XXXXXX").string();
  const int fd = mkstemp(file.data());
  if (fd < 0) base::fail("evaluate", "no file for compute-sanitizer in '" + file + "': make room");
  close(fd);
  WorkerClient::Answer answer{WorkerClient::Answer::Kind::died, {}, "interrupted"};
  try {
    if (!interrupted_) spawn(sanitizer_command(sanitizer, file));
    if (interrupted_) worker_.reset();
    if (worker_) answer = worker_->ask(request, timeout_s);
    if (worker_) worker_->finish(kToEnd);
    log = base::read_file(file, "evaluate");
  } catch (...) {
    fs::remove(file);
    throw;
  }
  worker_.reset();
  fs::remove(file);
  return answer;
}

void WorkerHost::prepare() {
  if (prepared_ || interrupted_) return;
  const int64_t start = base::steady_ns();
  if (!worker_) spawn();
  const base::Json reply = must({{"do", "prepare"}}, "computing the references");
  prepared_ = !reply.is_null();
  reference_seconds_ += base::seconds_since(start);
}

void WorkerHost::measure() {
  if (bandwidth_ || interrupted_) return;
  if (!worker_ || !worker_->alive()) spawn();
  const base::Json reply = must({{"do", "bandwidth"}}, "measuring the machine's bandwidth");
  if (!reply.is_null()) bandwidth_ = bandwidth_from_json(reply.at("bandwidth"));
}

void WorkerHost::interrupt() {
  interrupted_ = true;
  kill_worker(pid_);
}

}  // namespace mlx_kd::evaluate
