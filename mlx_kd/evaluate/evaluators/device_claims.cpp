// The part of the evaluator that makes claims, in a fresh worker.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/evaluate/evaluators/device_evaluator.h"

namespace mlx_kd::evaluate {
namespace {

using Kind = WorkerClient::Answer::Kind;

// A claim proves, and times two forms of MLX in addition to the kernel, whose own time is not to
// count.
constexpr double kClaimLimitFactor = 10;

std::string why_not(const spec::Metrics& m) {
  char text[120];
  std::snprintf(text, sizeof text, "the 95 %% interval of its speed-up, %.3f to %.3f, %s",
                m.speedup_lo, m.speedup_hi, m.speedup_hi < 1 ? "lies below 1" : "holds 1");
  return text;
}

}  // namespace

Claim DeviceEvaluator::claim(size_t size, const Compiled& what, const Compiled* leader) {
  Claim result;
  result.dims = task_.sizes[size];
  result.candidate_id = what.candidate.id();
  const auto part = [](const Compiled& c) {
    return base::Json{{"candidate", to_json(c.candidate)}, {"artifact", to_json(c.artifact)}};
  };
  base::Json request = part(what);
  request["do"] = "claim";
  request["size"] = size;
  request["leader"] = leader ? part(*leader) : base::Json();
  const double limit_s = kClaimLimitFactor * options_.time_limit_s;
  const auto answer = host_.ask(request, limit_s);
  spec::Verdict verdict;
  if (!take(answer, "re-measuring", limit_s, verdict)) {
    result.reason = name_of(verdict.status) + ": " + verdict.reason;
    host_.replace();
    return result;
  }
  result.metrics = spec::metrics_from_json(answer.reply.at("metrics"));
  result.metrics.compile_time_ms = what.artifact.compile_ms;
  result.baseline = answer.reply.at("baseline").get<std::string>();
  result.kind = spec::parse_claim_kind(answer.reply.at("claim_kind").get<std::string>());
  result.claimed = result.metrics.speedup_lo > 1 ||
                   (result.kind == spec::ClaimKind::mlx_cannot && result.baseline.empty());
  if (!result.claimed) result.reason = why_not(result.metrics);
  return result;
}

std::vector<Claim> DeviceEvaluator::claims_of_size(size_t size,
                                                   const std::vector<spec::Candidate>& finalists) {
  const auto artifacts = compile(finalists);
  std::vector<Claim> claims;
  double leader_us = spec::kUnmeasured;
  for (size_t i = 0; i < finalists.size() && !host_.interrupted(); ++i) {
    if (!artifacts[i].ok) {
      claims.push_back({task_.sizes[size], finalists[i].id(), {}, false, artifacts[i].error});
      continue;
    }
    const Compiled what{finalists[i], artifacts[i]}, leader{finalists[0], artifacts[0]};
    const bool paired = i > 0 && std::isfinite(leader_us);
    Claim claim = this->claim(size, what, paired ? &leader : nullptr);
    if (i == 0) leader_us = claim.metrics.kernel_us;
    if (paired) claim.metrics.kernel_us = leader_us * std::exp(claim.metrics.log_ratio);
    claim.metrics.log_ratio = spec::kUnmeasured;
    claims.push_back(claim);
  }
  return claims;
}

std::vector<Claim> DeviceEvaluator::claims(
    const std::vector<std::vector<spec::Candidate>>& finalists) {
  const int64_t start = base::steady_ns();
  host_.prepare();
  host_.measure();
  host_.replace();
  std::vector<Claim> result;
  for (size_t size = 0; size < finalists.size() && size < task_.sizes.size(); ++size)
    for (Claim& claim : claims_of_size(size, finalists[size])) result.push_back(std::move(claim));
  claims_s_ += base::seconds_since(start);
  return result;
}

std::vector<spec::AaPair> DeviceEvaluator::aa() {
  std::vector<spec::AaPair> result;
  if (!incumbent_) return result;
  const int64_t start = base::steady_ns();
  Compiled& what = incumbent_->what;
  if (!what.artifact.ok) what.artifact = compile({what.candidate}).front();
  host_.prepare();
  host_.measure();
  for (size_t size = 0; size < task_.sizes.size() && !host_.interrupted(); ++size) {
    const auto answer = host_.ask({{"do", "aa"},
                                   {"size", size},
                                   {"candidate", to_json(what.candidate)},
                                   {"artifact", to_json(what.artifact)}},
                                  kClaimLimitFactor * options_.time_limit_s);
    if (answer.kind != Kind::reply) continue;
    const auto number = [&](const char* key) { return answer.reply.at(key).get<double>(); };
    result.push_back(
        {task_.sizes[size], number("ratio"), number("lo"), number("hi"), number("spread")});
  }
  claims_s_ += base::seconds_since(start);
  return result;
}

}  // namespace mlx_kd::evaluate
