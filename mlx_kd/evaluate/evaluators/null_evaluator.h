// The evaluator of the null device: verdicts from a formula, in no time and without a worker. Same
// candidates, same bytes. With EvaluateOptions::null_times the verdicts are another device's, and
// only the times come from the formula.
#pragma once

#include <atomic>
#include <memory>
#include <optional>

#include "mlx_kd/devices/device.h"
#include "mlx_kd/evaluate/evaluators/device_evaluator.h"

namespace mlx_kd::evaluate {

class NullEvaluator : public Evaluator {
 public:
  NullEvaluator(const Task& task, const EvaluateOptions& options);

  void evaluate(const std::vector<spec::Candidate>& batch,
                const std::function<void(size_t, const spec::Verdict&)>& done) override;
  void adopt(const spec::Candidate& anchor, const spec::Candidate& incumbent,
             const std::vector<double>& log_ratios) override;
  std::vector<Claim> claims(const std::vector<std::vector<spec::Candidate>>& finalists) override;
  std::vector<spec::AaPair> aa() override;
  base::Json protocol() const override;
  std::string protocol_name() const override { return "null"; }
  base::Json runtime() const override;
  base::Json seconds() const override;
  void interrupt() override;

 private:
  spec::Verdict judge(const spec::Candidate& candidate) const;
  void add_times(const spec::Candidate& candidate, spec::Verdict& verdict);
  std::vector<Claim> proved_claims(const std::vector<std::vector<spec::Candidate>>& finalists);
  spec::Metrics times(const spec::Candidate& candidate, const spec::Dims& dims) const;
  Claim claim(const spec::Candidate& candidate, const spec::Dims& dims) const;

  Task task_;
  bool prove_only_;
  std::shared_ptr<const devices::Device> device_;
  std::unique_ptr<DeviceEvaluator> prover_;  // nullptr: nothing is proved
  std::atomic<bool> interrupted_{false};
  // log(kernel_us) of the first candidate at each size: where log_ratio is 0.
  std::optional<std::vector<double>> origin_;
};

}  // namespace mlx_kd::evaluate
