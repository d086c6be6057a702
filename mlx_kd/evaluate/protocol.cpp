#include "mlx_kd/evaluate/protocol.h"

#include <algorithm>

#include "mlx_kd/base/sha256.h"

namespace mlx_kd::evaluate {
namespace {

// Times are comparable between builds as long as the version is the same: a change of how samples
// are taken, paired or stopped that no setting states makes a new one. Version 1 is zmlx.kd's.
// Version 3: few pairs are enough for a claim where one call of MLX is slow (slow_call_ms); all
// else is as in version 2. Version 4: claims are made in several processes.
constexpr int kVersion = 4;

// Both versions of the proof: all cases at the smallest size, one at each other size and one after
// timing, each run twice; fewer rows beyond reference_bytes. Version 1: errors at most
// (roundings u + accumulated 2^-24) S + tiny. Version 2: each output has a judge (spec/op/judge.h),
// and a bound charges each rounding to the type on the magnitude of what it rounds.
constexpr int kProofVersion = 2;

base::Json proof_json(const Protocol& p) {
  return {{"version", kProofVersion},
          {"seeds", p.proof_seeds},
          {"distributions", {"normal", "magnitudes", "special"}},
          {"reference_bytes", p.reference_bytes},
          {"tiny_subnormals", p.tiny_subnormals},
          {"runs", 2}};
}

base::Json kernel_json(const Protocol& p) {
  return {{"clock", p.device_clock ? "device" : "host"},
          {"sample_us", p.sample_us},
          {"warmup", p.warmup},
          {"reject_pairs", p.reject_pairs},
          {"reject_factor", p.reject_factor},
          {"base_pairs", p.base_pairs},
          {"late_factor", p.late_factor},
          {"better_pairs", p.better_pairs},
          {"confirm_factor", p.confirm_factor},
          {"confirm_pairs", p.confirm_pairs},
          {"confirm_wins", p.confirm_wins},
          {"roofline_share", p.roofline_share},
          {"max_cold_sets", p.max_cold_sets},
          {"max_warm_sets", p.max_warm_sets}};
}

base::Json claim_json(const Protocol& p) {
  return {{"pairs", p.claim_pairs},
          {"most_pairs", p.most_claim_pairs},
          {"seconds", p.claim_s},
          {"graph_sample_ms", p.graph_sample_ms},
          {"presample", p.presample},
          {"max_graph_calls", p.max_graph_calls},
          {"graph_bytes", p.graph_bytes},
          {"cold_bytes", p.cold_bytes},
          {"slow_call_ms", p.slow_call_ms},
          {"slow_pairs", p.slow_pairs},
          {"slow_ratio", p.slow_ratio},
          {"resamples", p.bootstrap_resamples},
          {"processes", p.claim_processes},
          {"process_pairs", p.process_pairs},
          {"process_s", p.process_s},
          {"least_pairs", p.least_pairs},
          {"single_samples", p.single_samples}};
}

// The members of `settings` that differ from the defaults, in the groups they belong to.
base::Json changed(const base::Json& settings, const base::Json& defaults) {
  base::Json result = base::Json::object();
  for (const auto& [name, value] : settings.items()) {
    if (value == defaults.at(name)) continue;
    result[name] = value.is_object() ? changed(value, defaults.at(name)) : value;
  }
  return result;
}

}  // namespace

Protocol protocol_for(const EvaluateOptions& options, bool device_clock) {
  Protocol result;
  result.device_clock = device_clock;
  result.warmup = std::max(result.warmup, options.warmup);
  result.base_pairs = std::max(result.base_pairs, options.iters);
  result.better_pairs = std::max(result.better_pairs, options.iters);
  result.claim_pairs = std::max(result.claim_pairs, options.iters);
  result.most_claim_pairs = std::max(result.most_claim_pairs, options.iters);
  if (options.claim_processes > 0) result.claim_processes = options.claim_processes;
  return result;
}

base::Json to_json(const Protocol& protocol) {
  return {{"version", kVersion},
          {"proof", proof_json(protocol)},
          {"kernel", kernel_json(protocol)},
          {"claims", claim_json(protocol)}};
}

std::string name_of(const Protocol& protocol) {
  Protocol defaults;
  defaults.device_clock = protocol.device_clock;
  defaults.claim_processes =
      protocol.claim_processes;  // decides what is claimed, not what is timed
  std::string name = std::to_string(kVersion) + (protocol.device_clock ? "-device-clock" : "");
  const base::Json settings = changed(to_json(protocol), to_json(defaults));
  if (settings.empty()) return name;
  return name + "+" + base::sha256_hex(base::canonical_json(settings)).substr(0, 8);
}

}  // namespace mlx_kd::evaluate
