#include "mlx_kd/evaluate/null_evaluator.h"

#include <mlx/version.h>

#include <cmath>

#include "mlx_kd/devices/null/null_device.h"

namespace mlx_kd::evaluate {
namespace {

// What a call costs beside the kernel, and how wide an interval looks.
constexpr double kCallUs = 1.5, kSingleUs = 20, kHalfWidth = 0.02;

}  // namespace

NullEvaluator::NullEvaluator(const Task& task, const EvaluateOptions& options)
    : task_(task),
      prove_only_(options.prove_only),
      device_(devices::open_device(task.device_kind)) {}

void NullEvaluator::evaluate(const std::vector<spec::Candidate>& batch,
                             const std::function<void(size_t, const spec::Verdict&)>& done) {
  for (size_t i = 0; i < batch.size() && !interrupted_; ++i) done(i, judge(batch[i]));
}

spec::Metrics NullEvaluator::times(const spec::Candidate& candidate, const spec::Dims& dims) const {
  spec::Metrics m;
  m.kernel_us = m.p10_us = m.p90_us = devices::null::null_kernel_us(candidate, dims);
  m.gbps_est = 1e-3 * task_.op->cost(dims, task_.dtype).bytes / m.kernel_us;
  return m;
}

spec::Verdict NullEvaluator::judge(const spec::Candidate& candidate) {
  spec::Verdict verdict;
  verdict.seconds = {{"compile", 0.0}, {"prove", 0.0}, {"time", 0.0}};
  verdict.metrics.compile_time_ms = 0;
  verdict.status = devices::null::null_status(candidate);
  if (verdict.status != spec::Status::benchmarked) {
    verdict.reason = "so says the null device's formula";
    return verdict;
  }
  std::vector<double> logs;
  for (const auto& dims : task_.sizes) {
    spec::SizeMetrics size{dims, prove_only_ ? spec::Metrics() : times(candidate, dims)};
    size.metrics.correctness_max_abs_err = size.metrics.correctness_max_rel_err = 0;
    size.metrics.error_bound_used = 0;
    size.metrics.bit_exact = true;
    logs.push_back(std::log(size.metrics.kernel_us));
    verdict.sizes.push_back(size);
  }
  if (!origin_) origin_ = logs;
  for (size_t i = 0; i < logs.size(); ++i)
    verdict.sizes[i].metrics.log_ratio = logs[i] - (*origin_)[i];
  spec::summarise(verdict);
  return verdict;
}

void NullEvaluator::adopt(const spec::Candidate& incumbent, const std::vector<double>& log_ratios) {
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
  m.correctness_max_abs_err = m.correctness_max_rel_err = m.error_bound_used = 0;
  m.bit_exact = true;
  m.compile_time_ms = 0;
  result.claimed = m.speedup_lo > 1;
  if (!result.claimed) result.reason = "the interval of its speed-up does not lie above 1";
  return result;
}

std::vector<Claim> NullEvaluator::claims(
    const std::vector<std::vector<spec::Candidate>>& finalists) {
  std::vector<Claim> result;
  for (size_t i = 0; i < finalists.size() && i < task_.sizes.size(); ++i)
    for (const auto& candidate : finalists[i]) result.push_back(claim(candidate, task_.sizes[i]));
  return result;
}

std::vector<AaResult> NullEvaluator::aa() {
  std::vector<AaResult> result;
  for (const auto& dims : task_.sizes)
    result.push_back({dims, 1, 1 - kHalfWidth, 1 + kHalfWidth, 1 + 2 * kHalfWidth});
  return result;
}

base::Json NullEvaluator::protocol() const {
  return {{"device", "null"}};
}

base::Json NullEvaluator::runtime() const {
  const spec::DeviceId& id = device_->id();
  return {{"mlx_version", mlx::core::version()},
          {"device_name", id.name},
          {"device_arch", id.arch},
          {"device_kind", id.kind},
          {"target", id.target}};
}

base::Json NullEvaluator::seconds() const {
  return {{"compile", 0.0}, {"prove", 0.0}, {"time", 0.0}, {"reference", 0.0}, {"claims", 0.0}};
}

}  // namespace mlx_kd::evaluate
