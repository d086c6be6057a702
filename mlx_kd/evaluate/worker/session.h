// What a worker knows and does: one task, its references, buffers, device and loaded kernels.
#pragma once

#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "mlx_kd/evaluate/proof/proof.h"
#include "mlx_kd/evaluate/time/graph_timer.h"
#include "mlx_kd/evaluate/time/kernel_timer.h"
#include "mlx_kd/evaluate/worker/messages.h"
#include "mlx_kd/evaluate/worker/shared_memory.h"

namespace mlx_kd::evaluate {

// A candidate with its loaded code.
struct Loaded {
  spec::Candidate candidate;
  std::shared_ptr<devices::Program> program;
};

// MLX with fewer rows than the sizes whose claims take its time in proportion.
struct FewerRows {
  GraphTimer timer;
  Baseline mlx;
  std::vector<double> us;  // of a call, one a sample
};

// Answers requests, one at a time. A candidate that cannot be loaded or launched, or is wrong, is
// an answer with its status; what is wrong with the request or the machine is a base::Error.
class Session {
 public:
  // The task; `memory_fd` is the shared memory of its plan. `open_memory` gives another descriptor
  // of it each time that results are compared: the references are never mapped while a kernel runs.
  Session(const Setup& setup, int memory_fd, std::function<int()> open_memory);

  base::Json prepare();    // fills the shared memory -> {"seconds"}
  base::Json bandwidth();  // measures it -> {"bandwidth": {"warm", "cold"}}
  void set_bandwidth(const Bandwidth& bandwidth) { bandwidth_ = bandwidth; }
  // All take {"candidate", "artifact"}.
  base::Json prove(const base::Json& request);
  // {"incumbent": {"candidate", "artifact"} | null, "pairs": n | null}. With n the sample is that
  // long whatever it shows, and the reply says how many pairs were won over all sizes: {"wins"}.
  base::Json time(const base::Json& request);
  base::Json claim(const base::Json& request);  // {"size", "leader": as incumbent}
  // {"size", "mlx": as the reply of claim has it}: the speed-up alone, by fewer pairs ->
  // {"log_ratio"}.
  base::Json claim_again(const base::Json& request);
  base::Json aa(const base::Json& request);  // {"size"}

 private:
  Loaded load(const base::Json& request);
  const Loaded& incumbent(const base::Json& request);
  Timed timed(const Loaded& what, size_t size) const;
  devices::Call call(const Loaded& what, const spec::Dims& dims,
                     const std::vector<double>& scalars) const;
  Function as_function(const Loaded& what, size_t size) const;
  Prover& prover();
  std::shared_ptr<const std::byte> references() const;
  void check_accesses(const Loaded& loaded, Proof& proof);  // races and bounds, on a small part
  TimingBuffers& buffers(size_t size);
  GraphTimer& graph(size_t size);
  const Case& timed_case(size_t size) const { return plan_.cases[plan_.timed[size]]; }
  KernelTimes time_size(const Loaded& candidate, const Loaded* incumbent, size_t size, int pairs);
  spec::SizeMetrics metrics_of(const KernelTimes& times, size_t size);
  void prove_after_timing(const Loaded& candidate, Proof& proof);
  double least_possible_us(size_t size);
  void check_roofline(const spec::SizeMetrics& size, size_t index, Proof& proof);
  bool is_slow(double us) const { return us > 1e3 * protocol_.slow_call_ms; }
  const Baseline& baseline(size_t size);
  FewerRows* fewer_rows(size_t size);
  GraphSpeedup compare(const Function& mine, size_t size);
  Proof prove_again(const Loaded& loaded, size_t size);
  void claim_kernel(const Loaded& candidate, const Loaded* leader, size_t size,
                    spec::Metrics& metrics);
  void claim_graph(const Loaded& candidate, size_t size, spec::Metrics& metrics);

  Setup setup_;
  const spec::Op& op_;
  std::shared_ptr<const devices::Device> device_;
  Protocol protocol_;
  CasePlan plan_;
  SharedMemory memory_;
  std::function<int()> open_memory_;
  Bandwidth bandwidth_;
  base::Random random_;
  std::unique_ptr<Prover> prover_;
  std::map<size_t, TimingBuffers> buffers_;
  std::map<size_t, GraphTimer> graphs_;  // one at most: it has many copies of the inputs
  std::map<size_t, Baseline> baselines_;
  std::map<std::string, FewerRows> fewer_;  // by size
  std::map<std::string, Proof> proved_;     // for claims, by candidate
  std::optional<Loaded> incumbent_;
};

base::Json to_json(const Proof& proof);
base::Json launch_error(const std::exception& error);

}  // namespace mlx_kd::evaluate
