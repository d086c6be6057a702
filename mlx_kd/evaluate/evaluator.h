// Proves and times candidates of one op, type and list of sizes. The protocol is docs/measuring.md.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "mlx_kd/spec/claim.h"
#include "mlx_kd/spec/device_id.h"
#include "mlx_kd/spec/op/candidate.h"
#include "mlx_kd/spec/verdict.h"

namespace mlx_kd::evaluate {

struct EvaluateOptions {
  uint64_t seed = 0;
  int warmup = 0;  // floors under the protocol's own counts
  int iters = 0;
  int claim_processes = 0;  // that a claim is made in; 0: as many as the protocol says
  double compile_limit_s = 60, prove_limit_s = 30, time_limit_s = 30;
  std::string worker_program;  // the kd program; empty: the running one
  std::vector<double> params;  // runtime inputs timed with; empty: the op's defaults
  bool prove_only = false;     // verdicts carry no times (kd verify)
  // What find_sanitizer() found: each proved candidate is proved again in a worker of its own under
  // that program, and what it finds makes the candidate wrong. Empty: none.
  std::string sanitizer;
  // Proofs are real and times are the null device's: for a device that is not here. prove_on: the
  // kind of the device that proves; empty: the task's own.
  bool null_times = false;
  std::string prove_on;
};

// compute-sanitizer: MLX_KD_SANITIZER, else in PATH, else of the CUDA toolkit. Misuse, saying what
// to do, where there is none, and for a device other than cuda.
std::string find_sanitizer(const std::string& device_kind);

struct Task {
  const spec::Op* op;
  std::string device_kind;
  spec::Dtype dtype;
  std::vector<spec::Dims> sizes;  // complete, at least one
};

using spec::Claim;

class Evaluator {
 public:
  virtual ~Evaluator() = default;

  // Evaluates a batch; `done` is called once per candidate, in order, as soon as its verdict is
  // known. The first candidate benchmarked in the evaluator's life is the anchor: it defines
  // log_ratio = 0 and is the incumbent that later ones are timed against, until one is faster
  // beyond doubt. That one's log_ratio comes from a fresh sample against the anchor, so that
  // neither luck nor a change of the machine adds up from incumbent to incumbent.
  // Returns early (fewer calls of done) after interrupt().
  virtual void evaluate(const std::vector<spec::Candidate>& batch,
                        const std::function<void(size_t, const spec::Verdict&)>& done) = 0;

  // A resumed run: the anchor, the incumbent and its log_ratio a size, as recorded.
  virtual void adopt(const spec::Candidate& anchor, const spec::Candidate& incumbent,
                     const std::vector<double>& log_ratios) = 0;

  // Fresh worker, fixed sample. finalists[i] are the candidates to try for sizes[i], best first.
  // One claim a finalist and size.
  virtual std::vector<Claim> claims(const std::vector<std::vector<spec::Candidate>>& finalists) = 0;

  // An A/A pair on each size with the incumbent.
  virtual std::vector<spec::AaPair> aa() = 0;

  virtual base::Json protocol() const = 0;        // measurement settings
  virtual std::string protocol_name() const = 0;  // "null" on the null device
  virtual base::Json runtime() const = 0;         // {mlx_version, device_name, device_arch, ...}
  virtual base::Json seconds()
      const = 0;  // wall time spent: {compile, prove, time, reference, claims}

  // Safe from a signal handler's thread: the evaluation in flight is abandoned.
  virtual void interrupt() = 0;
};

// null device: times from a formula, no worker. Others: spawned workers.
std::unique_ptr<Evaluator> make_evaluator(const Task& task, const EvaluateOptions& options);

// Main of a worker process (the hidden verb `kd worker`): serves requests on fd until it closes.
// Exit status.
int worker_main(int fd);

}  // namespace mlx_kd::evaluate
