// Keeps a worker ready: spawns it when one is needed, prepared references and bandwidth kept.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "mlx_kd/evaluate/time/bandwidth.h"
#include "mlx_kd/evaluate/worker/shared_memory.h"
#include "mlx_kd/evaluate/worker/worker_client.h"

namespace mlx_kd::evaluate {

// One thread at a time, interrupt() excepted.
class WorkerHost {
 public:
  // `memory_bytes`: of the plan's shared memory. Spawns nothing yet.
  WorkerHost(const Setup& setup, const std::string& program, int64_t memory_bytes);

  // Computes the references, once; fails (exit 1) if that ends the worker. Spends the time on
  // reference_seconds().
  void prepare();
  // Measures the machine's bandwidth, once. Nothing else may run meanwhile.
  void measure();
  // Asks the worker, a new one if there is none. After timed_out or died it is gone.
  WorkerClient::Answer ask(const base::Json& request, double timeout_s);
  // Asks a worker of its own under compute-sanitizer, whose log goes to `log`. It has ended then.
  WorkerClient::Answer ask_watched(const base::Json& request, double timeout_s,
                                   const std::string& sanitizer, std::string& log);
  // Ends the worker: what a bad candidate may have harmed, or a fresh process that is wanted.
  void replace() { worker_.reset(); }

  // Safe in a signal handler: ends the worker, from now on there is none.
  void interrupt();
  bool interrupted() const { return interrupted_; }
  const std::atomic<bool>& interrupted_flag() const { return interrupted_; }
  double reference_seconds() const { return reference_seconds_; }

 private:
  void spawn(const std::vector<std::string>& command = {});
  base::Json must(const base::Json& request, const std::string& what);

  Setup setup_;
  std::string program_;
  SharedMemory memory_;
  std::atomic<bool> interrupted_{false};
  std::atomic<pid_t> pid_{0};
  std::unique_ptr<WorkerClient> worker_;
  bool prepared_ = false;
  std::optional<Bandwidth> bandwidth_;
  double reference_seconds_ = 0;
};

}  // namespace mlx_kd::evaluate
