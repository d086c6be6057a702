// The part of the evaluator that makes claims, in a fresh worker.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/evaluate/evaluators/device_evaluator.h"
#include "mlx_kd/evaluate/time/statistics.h"
#include "mlx_kd/spec/order.h"

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

DeviceEvaluator::Made DeviceEvaluator::claim(size_t size, const Compiled& what,
                                             const Compiled* leader) {
  Made made{{}, size, what};
  Claim& result = made.claim;
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
    return made;
  }
  result.metrics = spec::metrics_from_json(answer.reply.at("metrics"));
  result.metrics.compile_time_ms = what.artifact.compile_ms;
  result.baseline = answer.reply.at("baseline").get<std::string>();
  result.kind = spec::parse_claim_kind(answer.reply.at("claim_kind").get<std::string>());
  result.claimed = result.metrics.speedup_lo > 1 ||
                   (result.kind == spec::ClaimKind::mlx_cannot && result.baseline.empty());
  if (!result.claimed) result.reason = why_not(result.metrics);
  made.mlx = answer.reply.value("mlx", base::Json());
  made.log_ratios = {std::log(result.metrics.speedup_vs_ref)};
  return made;
}

std::vector<DeviceEvaluator::Made> DeviceEvaluator::claims_of_size(
    size_t size, const std::vector<spec::Candidate>& finalists) {
  const auto artifacts = compile(finalists);
  std::vector<Made> result;
  double leader_us = spec::kUnmeasured;
  for (size_t i = 0; i < finalists.size() && !host_.interrupted(); ++i) {
    const Compiled what{finalists[i], artifacts[i]}, leader{finalists[0], artifacts[0]};
    if (!artifacts[i].ok) {
      result.push_back(
          {{task_.sizes[size], finalists[i].id(), {}, false, artifacts[i].error}, size, what});
      continue;
    }
    const auto known = std::find_if(result.begin(), result.end(), [&](const Made& one) {
      return one.what.artifact.ok && are_one_program(one.what, what);
    });
    if (known != result.end()) {
      Made same = *known;
      same.what = what;
      same.claim.candidate_id = what.candidate.id();
      result.push_back(std::move(same));
      continue;
    }
    const bool paired = i > 0 && std::isfinite(leader_us);
    Made& made = result.emplace_back(claim(size, what, paired ? &leader : nullptr));
    spec::Metrics& metrics = made.claim.metrics;
    if (i == 0) leader_us = metrics.kernel_us;
    if (paired) metrics.kernel_us = leader_us * std::exp(metrics.log_ratio);
    metrics.log_ratio = spec::kUnmeasured;
  }
  return result;
}

// Of each size the first claim by spec::rank, unless it is confirmed or needs no other process.
std::vector<DeviceEvaluator::Made*> DeviceEvaluator::unconfirmed_winners(
    std::vector<Made>& made) const {
  std::vector<Made*> result;
  for (size_t size = 0; size < task_.sizes.size(); ++size) {
    std::vector<Made*> claimed;
    std::vector<spec::Ranked> ranked;
    for (Made& one : made) {
      if (one.size != size || !one.claim.claimed) continue;
      claimed.push_back(&one);
      ranked.push_back({&one.claim.metrics, one.claim.candidate_id});
    }
    if (claimed.empty()) continue;
    Made* const winner = claimed[spec::rank(ranked).front()];
    if (!winner->is_confirmed && !winner->mlx.is_null()) result.push_back(winner);
  }
  return result;
}

// The same claim in the process that is there; a failure takes it back.
void DeviceEvaluator::claim_again(Made& made) {
  const double limit_s = kClaimLimitFactor * options_.time_limit_s;
  const auto answer = host_.ask({{"do", "claim_again"},
                                 {"size", made.size},
                                 {"mlx", made.mlx},
                                 {"candidate", to_json(made.what.candidate)},
                                 {"artifact", to_json(made.what.artifact)}},
                                limit_s);
  spec::Verdict verdict;
  if (take(answer, "re-measuring", limit_s, verdict)) {
    made.log_ratios.push_back(answer.reply.at("log_ratio").get<double>());
    return;
  }
  made.claim.claimed = false;
  made.claim.reason = name_of(verdict.status) + " in another process: " + verdict.reason;
  host_.replace();
}

// Of each size the winner is measured in further processes, all sizes in each. One that is not
// surely faster over processes gives way to the next.
void DeviceEvaluator::confirm_winners(std::vector<Made>& made) {
  for (auto winners = unconfirmed_winners(made); !winners.empty() && !host_.interrupted();
       winners = unconfirmed_winners(made)) {
    for (int process = 1; process < protocol_.claim_processes; ++process) {
      host_.replace();
      for (Made* winner : winners)
        if (winner->claim.claimed && !host_.interrupted()) claim_again(*winner);
    }
    for (Made* winner : winners) {
      winner->is_confirmed = true;
      if (!winner->claim.claimed || winner->log_ratios.size() < 2) continue;
      spec::Metrics& metrics = winner->claim.metrics;
      const AcrossProcesses seen = across_processes(winner->log_ratios);
      metrics.speedup_vs_ref = seen.ratio.middle;
      metrics.speedup_lo = seen.ratio.lo, metrics.speedup_hi = seen.ratio.hi;
      metrics.expect_lo = seen.expect_lo, metrics.expect_hi = seen.expect_hi;
      winner->claim.claimed = metrics.speedup_lo > 1;
      if (!winner->claim.claimed) winner->claim.reason = why_not(metrics);
    }
  }
}

std::vector<Claim> DeviceEvaluator::claims(
    const std::vector<std::vector<spec::Candidate>>& finalists) {
  const int64_t start = base::steady_ns();
  host_.prepare();
  host_.measure();
  host_.replace();
  std::vector<Made> made;
  for (size_t size = 0; size < finalists.size() && size < task_.sizes.size(); ++size)
    for (Made& one : claims_of_size(size, finalists[size])) made.push_back(std::move(one));
  if (protocol_.claim_processes > 1) confirm_winners(made);
  std::vector<Claim> result;
  for (Made& one : made) result.push_back(std::move(one.claim));
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
