#include "mlx_kd/evaluate/evaluators/null_evaluator.h"

#include <mlx/version.h>

#include <cmath>
#include <map>

#include "mlx_kd/devices/null/null_device.h"
#include "mlx_kd/devices/null/proxy_device.h"

namespace mlx_kd::evaluate {
namespace {

// What a call costs in addition to the kernel, and how wide an interval looks.
constexpr double kCallUs = 1.5, kSingleUs = 20, kHalfWidth = 0.02;

// The task and options of the evaluator that proves.
std::unique_ptr<DeviceEvaluator> make_prover(const Task& task, EvaluateOptions options) {
  if (!options.null_times) return nullptr;
  Task proved = task;
  if (!options.prove_on.empty()) proved.device_kind = options.prove_on;
  options.prove_only = true;
  return std::make_unique<DeviceEvaluator>(proved, options);
}

std::shared_ptr<const devices::Device> open_target(const Task& task,
                                                   const EvaluateOptions& options) {
  if (!options.null_times) return devices::open_device(task.device_kind);
  return devices::null::stand_in(task.device_kind,
                                 options.prove_on.empty() ? task.device_kind : options.prove_on);
}

void take_errors(const spec::Metrics& from, spec::Metrics& to) {
  to.correctness_max_abs_err = from.correctness_max_abs_err;
  to.correctness_max_rel_err = from.correctness_max_rel_err;
  to.error_bound_used = from.error_bound_used;
  to.bit_exact = from.bit_exact;
}

}  // namespace

NullEvaluator::NullEvaluator(const Task& task, const EvaluateOptions& options)
    : task_(task),
      prove_only_(options.prove_only),
      device_(open_target(task, options)),
      prover_(make_prover(task, options)) {}

void NullEvaluator::interrupt() {
  interrupted_ = true;
  if (prover_) prover_->interrupt();
}

void NullEvaluator::evaluate(const std::vector<spec::Candidate>& batch,
                             const std::function<void(size_t, const spec::Verdict&)>& done) {
  const auto timed = [&](size_t i, spec::Verdict verdict) {
    add_times(batch[i], verdict);
    done(i, verdict);
  };
  if (prover_) return prover_->evaluate(batch, timed);
  for (size_t i = 0; i < batch.size() && !interrupted_; ++i) timed(i, judge(batch[i]));
}

spec::Metrics NullEvaluator::times(const spec::Candidate& candidate, const spec::Dims& dims) const {
  spec::Metrics m;
  m.kernel_us = m.p10_us = m.p90_us = devices::null::null_kernel_us(candidate, dims);
  m.gbps_est = 1e-3 * spec::cost_of(*task_.op, dims, task_.dtype).bytes / m.kernel_us;
  return m;
}

spec::Verdict NullEvaluator::judge(const spec::Candidate& candidate) const {
  spec::Verdict verdict;
  verdict.seconds = {{"compile", 0.0}, {"prove", 0.0}, {"time", 0.0}};
  verdict.metrics.compile_time_ms = 0;
  verdict.status = devices::null::null_status(candidate);
  if (verdict.status != spec::Status::benchmarked) {
    verdict.reason = "by the null device's formula";
    return verdict;
  }
  for (const auto& dims : task_.sizes) {
    spec::SizeMetrics size{dims, spec::Metrics()};
    size.metrics.correctness_max_abs_err = size.metrics.correctness_max_rel_err = 0;
    size.metrics.error_bound_used = 0;
    size.metrics.bit_exact = true;
    verdict.sizes.push_back(size);
  }
  return verdict;
}

void NullEvaluator::add_times(const spec::Candidate& candidate, spec::Verdict& verdict) {
  if (verdict.status != spec::Status::benchmarked) return;
  std::vector<double> logs;
  for (auto& size : verdict.sizes) {
    const spec::Metrics proved = size.metrics;
    size.metrics = prove_only_ ? spec::Metrics() : times(candidate, size.dims);
    take_errors(proved, size.metrics);
    logs.push_back(std::log(size.metrics.kernel_us));
  }
  if (!origin_) origin_ = logs;
  for (size_t i = 0; i < logs.size(); ++i)
    verdict.sizes[i].metrics.log_ratio = logs[i] - (*origin_)[i];
  spec::summarise(verdict);
}

void NullEvaluator::adopt(const spec::Candidate& /*anchor*/, const spec::Candidate& incumbent,
                          const std::vector<double>& log_ratios) {
  origin_.emplace();
  for (size_t i = 0; i < task_.sizes.size(); ++i)
    origin_->push_back(std::log(times(incumbent, task_.sizes[i]).kernel_us) - log_ratios.at(i));
}

Claim NullEvaluator::claim(const spec::Candidate& candidate, const spec::Dims& dims) const {
  Claim result;
  result.dims = dims;
  result.candidate_id = candidate.id();
  result.baseline = "plain";
  spec::Metrics& m = result.metrics = times(candidate, dims);
  m.baseline_us = devices::null::null_mlx_us(dims, task_.dtype) + kCallUs;
  m.latency_us = m.p10_us = m.p90_us = m.kernel_us + kCallUs;
  m.single_us = m.kernel_us + kSingleUs;
  m.speedup_vs_ref = m.baseline_us / m.latency_us;
  m.speedup_lo = m.speedup_vs_ref * (1 - kHalfWidth);
  m.speedup_hi = m.speedup_vs_ref * (1 + kHalfWidth);
  m.expect_lo = m.speedup_lo, m.expect_hi = m.speedup_hi;
  m.correctness_max_abs_err = m.correctness_max_rel_err = m.error_bound_used = 0;
  m.bit_exact = true;
  m.compile_time_ms = 0;
  result.claimed = m.speedup_lo > 1;
  if (!result.claimed) result.reason = "the interval of its speed-up does not lie above 1";
  return result;
}

// Finalists are proved again, as those of a real device are.
std::vector<Claim> NullEvaluator::proved_claims(
    const std::vector<std::vector<spec::Candidate>>& finalists) {
  std::map<std::string, spec::Verdict> proved;
  std::vector<spec::Candidate> batch;
  for (const auto& of_size : finalists)
    for (const auto& candidate : of_size)
      if (proved.try_emplace(candidate.id()).second) batch.push_back(candidate);
  prover_->evaluate(
      batch, [&](size_t i, const spec::Verdict& verdict) { proved[batch[i].id()] = verdict; });
  std::vector<Claim> result;
  for (size_t i = 0; i < finalists.size() && i < task_.sizes.size(); ++i)
    for (const auto& candidate : finalists[i]) {
      const spec::Verdict& verdict = proved[candidate.id()];
      Claim& made = result.emplace_back(claim(candidate, task_.sizes[i]));
      if (verdict.status == spec::Status::benchmarked) {
        take_errors(verdict.sizes.at(i).metrics, made.metrics);
        continue;
      }
      made.claimed = false;
      made.reason = spec::name_of(verdict.status) + ": " + verdict.reason;
    }
  return result;
}

std::vector<Claim> NullEvaluator::claims(
    const std::vector<std::vector<spec::Candidate>>& finalists) {
  if (prover_) return proved_claims(finalists);
  std::vector<Claim> result;
  for (size_t i = 0; i < finalists.size() && i < task_.sizes.size(); ++i)
    for (const auto& candidate : finalists[i]) result.push_back(claim(candidate, task_.sizes[i]));
  return result;
}

std::vector<spec::AaPair> NullEvaluator::aa() {
  std::vector<spec::AaPair> result;
  for (const auto& dims : task_.sizes)
    result.push_back({dims, 1, 1 - kHalfWidth, 1 + kHalfWidth, 1 + 2 * kHalfWidth});
  return result;
}

base::Json NullEvaluator::protocol() const {
  base::Json result = {{"device", "null"}};
  if (prover_) result["proof"] = prover_->protocol().at("proof");
  return result;
}

base::Json NullEvaluator::runtime() const {
  const spec::DeviceId& id = device_->id();
  base::Json result = {{"mlx_version", mlx::core::version()},
                       {"device_name", id.name},
                       {"device_arch", id.arch},
                       {"device_kind", id.kind},
                       {"target", id.target}};
  if (prover_) result["proved_on"] = prover_->runtime().at("device_kind");
  return result;
}

base::Json NullEvaluator::seconds() const {
  if (prover_) return prover_->seconds();
  return {{"compile", 0.0}, {"prove", 0.0}, {"time", 0.0}, {"reference", 0.0}, {"claims", 0.0}};
}

}  // namespace mlx_kd::evaluate
