#include "mlx_kd/evaluate/protocol.h"

#include <algorithm>

#include "mlx_kd/base/sha256.h"

namespace mlx_kd::evaluate {
namespace {

base::Json proof_json(const Protocol& p) {
  return {{"seeds", p.proof_seeds},
          {"distributions", {"normal", "magnitudes", "special"}},
          {"cases", "all at the smallest size, one at each other size, one after timing"},
          {"reference_bytes", p.reference_bytes},
          {"beyond_reference_bytes", "fewer rows are proved"},
          {"bound", "(roundings u + accumulated 2^-24) S + tiny"},
          {"tiny_subnormals", p.tiny_subnormals},
          {"runs", 2}};
}

base::Json kernel_json(const Protocol& p) {
  base::Json json = {{"sample_us", p.sample_us},
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
                     {"max_warm_sets", p.max_warm_sets},
                     {"warm", "bytes of a call <= L2 / 2"},
                     {"new_incumbent", "timed against the first candidate"}};
  if (!p.device_clock) return json;
  json["clock"] = "the device's, at both ends of a graph of the calls";
  json["cold"] = "twice the L2 is written before a sample";
  return json;
}

base::Json claim_json(const Protocol& p) {
  return {{"pairs", p.claim_pairs},
          {"most_pairs", p.most_claim_pairs},
          {"seconds", p.claim_s},
          {"graph_sample_ms", p.graph_sample_ms},
          {"presample", p.presample},
          {"max_graph_calls", p.max_graph_calls},
          {"graph_bytes", p.graph_bytes},
          {"single_samples", p.single_samples},
          {"interval", "95 % percentile bootstrap of the median log ratio"},
          {"resamples", p.bootstrap_resamples}};
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
  return result;
}

base::Json to_json(const Protocol& protocol) {
  return {{"version", 1},
          {"proof", proof_json(protocol)},
          {"kernel", kernel_json(protocol)},
          {"claims", claim_json(protocol)}};
}

std::string hash_of(const Protocol& protocol) {
  return base::sha256_hex(base::canonical_json(to_json(protocol))).substr(0, 16);
}

}  // namespace mlx_kd::evaluate
