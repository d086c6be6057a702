// Proves candidates of any operator in this process, as a worker does, without timing them.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "mlx_kd/base/random.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/evaluate/proof/proof.h"
#include "mlx_kd/evaluate/proof/references.h"
#include "mlx_kd/evaluate/worker/shared_memory.h"

namespace mlx_kd::evaluate {

class ProofRig {
 public:
  // The references of all cases are computed now. `sizes` as a user gives them.
  ProofRig(const spec::Op& op, spec::Dtype t, const std::vector<spec::Dims>& sizes,
           const std::string& device = "cpu")
      : op_(op),
        t_(t),
        sizes_(completed(op, sizes)),
        device_(devices::open_device(device)),
        plan_(plan_cases(op, t, sizes_, spec::default_scalars(op), protocol_)),
        memory_(SharedMemory::create(plan_.bytes)) {
    std::byte* const memory = memory_.map(true);
    for (const Case& c : plan_.cases) prepare_case(op, t, c, protocol_, memory);
    prepare_inputs(op, t, plan_.watched, memory);
    prover_ = std::make_unique<Prover>(op, t, plan_, sizes_.size(), memory, nullptr);
  }

  spec::Candidate candidate(const spec::Variant& variant, const spec::Setting& knobs) const {
    const spec::Space space = variant.space(t_, device_->id().traits);
    return spec::make_candidate(op_, variant, t_, knobs, space, sizes_.front());
  }

  // The verdict on a candidate: how far its proof came. compile_error where it does not compile.
  Proof prove(const spec::Candidate& candidate) {
    Proof proof;
    const devices::Artifact artifact = device_->compile(candidate, 60);
    if (!artifact.ok) {
      proof.status = spec::Status::compile_error;
      proof.reason = artifact.error;
      return proof;
    }
    return prover_->prove(candidate, *device_->load(artifact, candidate));
  }

  // The verdict on what a kernel made of a case elsewhere.
  Proof judge(const Case& c, const spec::Variant& variant,
              const std::vector<const void*>& outputs) const {
    Proof proof;
    proof.sizes.resize(sizes_.size());
    prover_->check(c, variant, outputs, proof);
    return proof;
  }

  // Of the candidate with `wrong` in the place of `right`, the first in its text. A text that is
  // not there fails the test.
  Proof prove_changed(spec::Candidate candidate, const std::string& right,
                      const std::string& wrong) {
    const size_t at = candidate.source.find(right);
    EXPECT_NE(at, std::string::npos) << right;
    if (at != std::string::npos) candidate.source.replace(at, right.size(), wrong);
    return prove(candidate);
  }

  spec::Space space(const spec::Variant& variant) const {
    return variant.space(t_, device_->id().traits);
  }
  const CasePlan& plan() const { return plan_; }
  const std::byte* memory() const { return memory_.data(); }
  const devices::Device& device() const { return *device_; }

 private:
  static std::vector<spec::Dims> completed(const spec::Op& op,
                                           const std::vector<spec::Dims>& given) {
    std::vector<spec::Dims> result;
    for (const spec::Dims& dims : given) result.push_back(spec::complete(op, dims));
    return result;
  }

  const spec::Op& op_;
  spec::Dtype t_;
  Protocol protocol_;
  std::vector<spec::Dims> sizes_;
  std::shared_ptr<const devices::Device> device_;
  CasePlan plan_;
  SharedMemory memory_;
  std::unique_ptr<Prover> prover_;
};

// A valid setting drawn at random; the default if none is found.
inline spec::Setting random_setting(const spec::Space& space, base::Random& random) {
  for (int trial = 0; trial < 10000; ++trial) {
    spec::Setting setting;
    for (const spec::Knob& knob : space.knobs)
      setting.set(knob.name, knob.values[random.below(knob.values.size())]);
    if (spec::is_valid(space, setting)) return setting;
  }
  return spec::default_setting(space);
}

}  // namespace mlx_kd::evaluate
