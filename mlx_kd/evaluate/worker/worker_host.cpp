#include "mlx_kd/evaluate/worker/worker_host.h"

#include <utility>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"

namespace mlx_kd::evaluate {
namespace {

constexpr int kMemoryFd = 4;
constexpr double kForEver = -1;

}  // namespace

WorkerHost::WorkerHost(const Setup& setup, const std::string& program, int64_t memory_bytes)
    : setup_(setup),
      program_(program.empty() ? running_program() : program),
      memory_(SharedMemory::create(memory_bytes)) {}

void WorkerHost::spawn() {
  worker_.reset();
  worker_ = std::make_unique<WorkerClient>(program_, memory_.fd(), pid_);
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
  // Whoever interrupted between the check and the spawn found no process to end.
  if (interrupted_) worker_.reset();
  if (!worker_) return {WorkerClient::Answer::Kind::died, {}, "interrupted"};
  return worker_->ask(request, timeout_s);
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
