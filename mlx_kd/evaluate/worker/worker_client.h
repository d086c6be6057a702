// A worker process as the parent sees it: spawned, asked, killed.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "mlx_kd/evaluate/worker/messages.h"

namespace mlx_kd::evaluate {

// The program that runs now.
std::string running_program();

// Ends the process and what it started; safe in a signal handler. Nothing if pid is 0.
void kill_worker(pid_t pid);

// One worker. What its kernels start ends with it. Its process ends with the object, at the latest.
// One thread at a time.
class WorkerClient {
 public:
  // Spawns `program worker --fd 3` with the socket as 3 and memory_fd as 4. Fails (exit 1), naming
  // the program, if it cannot be started. `pid` holds the process while it lives, 0 otherwise, so
  // so that its owner can end the worker from a signal handler; it outlives the object.
  // `command`: another program and its arguments, which starts the worker.
  WorkerClient(const std::string& program, int memory_fd, std::atomic<pid_t>& pid,
               const std::vector<std::string>& command = {});
  WorkerClient(const WorkerClient&) = delete;
  WorkerClient& operator=(const WorkerClient&) = delete;
  ~WorkerClient();

  struct Answer {
    enum class Kind { reply, timed_out, died } kind;
    base::Json reply;
    std::string reason;  // how it died: "signal 11 (Segmentation fault)", "exit status 0"
  };
  // After timed_out or died the worker is dead. Throws base::Error where the worker reports one.
  Answer ask(const base::Json& request, double timeout_s);

  // Has the worker end by itself, within that time; then it is ended.
  void finish(double timeout_s);

  bool alive() const { return pid_ > 0; }
  // What the worker signs its lines with; for its setup.
  const std::string& signature() const { return signature_; }

 private:
  std::string reap();
  Answer died();
  Answer forged();
  void end();
  std::atomic<pid_t>& pid_;
  int fd_, memory_fd_;
  std::string signature_, mark_;
  std::unique_ptr<LineReader> reader_;
};

}  // namespace mlx_kd::evaluate
