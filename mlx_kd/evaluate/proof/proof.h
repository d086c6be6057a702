// Proves a loaded kernel on the prepared cases.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mlx_kd/devices/device.h"
#include "mlx_kd/evaluate/proof/guards.h"
#include "mlx_kd/evaluate/proof/process_watch.h"
#include "mlx_kd/evaluate/proof/proof_plan.h"
#include "mlx_kd/evaluate/proof/views.h"
#include "mlx_kd/spec/verdict.h"

namespace mlx_kd::evaluate {

// What proof found; errors by size (those against MLX, and the bits, from its normal cases).
struct Proof {
  spec::Status status = spec::Status::benchmarked;  // or wrong, unstable, launch_error
  std::string reason;
  struct Errors {
    double max_abs_err = 0, max_rel_err = 0, bound_used = 0;
    bool bit_exact = true;
  };
  std::vector<Errors> sizes;
};

// Where a proof writes; kept between candidates.
class Prover {
 public:
  // Gives the prepared shared memory with the expected results, readable while the pointer lives.
  using References = std::function<std::shared_ptr<const std::byte>()>;

  // `memory`: the prepared shared memory, read-only; without `references` the expected results are
  // read there too. All must outlive the prover.
  // `accelerator`: of the device, null where kernels run on the host's memory.
  Prover(const spec::Op& op, spec::Dtype t, const CasePlan& plan, size_t sizes,
         const std::byte* memory, const devices::Accelerator* accelerator,
         References references = {});

  // All cases, or those of one size; stops at the first that fails.
  Proof prove(const spec::Candidate& candidate, const devices::Program& program,
              std::optional<size_t> size = {});

  // One case on given memory: `inputs` hold the case's inputs, `outputs` have run already.
  // Adds to the proof what it finds.
  void check(const Case& c, const spec::Variant& variant, const std::vector<const void*>& outputs,
             Proof& proof) const;

 private:
  struct Kernel {
    const spec::Variant& variant;
    const spec::Setting& knobs;
    const devices::Program& program;
    ProcessWatch* watch;  // of machine code of the host, which can do what a program can
  };
  void prove_case(const Case& c, const Kernel& kernel, ViewKind view, Proof& proof);
  std::vector<const void*> run(const Case& c, const Kernel& kernel, ViewKind view,
                               FencedBuffer::Place place, Proof& proof);
  void launch(const Case& c, const std::vector<const void*>& inputs,
              const std::vector<void*>& outputs, const devices::Program& program,
              const devices::Call& call, Proof& proof) const;
  void compare_runs(const Case& c, const std::vector<const void*>& low,
                    const std::vector<const void*>& high, Proof& proof) const;
  void check_bound(const Case& c, size_t output, const spec::Variant& variant, const void* made,
                   const std::byte* references, Proof& proof) const;
  void check_exact(const Case& c, size_t output, const void* made, const std::byte* references,
                   Proof& proof) const;
  void check_residuals(const Case& c, const std::vector<const void*>& outputs, Proof& proof) const;
  std::vector<const void*> inputs_of(const Case& c) const;
  std::vector<std::unique_ptr<FencedBuffer>> make_buffers() const;

  const spec::Op& op_;
  spec::Dtype t_;
  const CasePlan& plan_;
  size_t sizes_;
  const std::byte* memory_;
  References references_;
  const devices::Accelerator* accelerator_;
  std::vector<std::unique_ptr<FencedBuffer>> low_, high_;  // of each output
};

// Takes the expected results out of the mapping.
void hide_references(const CasePlan& plan, std::byte* memory);
// Makes every input's page behind its end, and the inputs themselves, known to the fault report.
void guard_inputs(const CasePlan& plan, std::byte* memory);

}  // namespace mlx_kd::evaluate
