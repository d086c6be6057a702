// What a run found out about its finalists, re-measured in a fresh process.
#pragma once

#include <string>

#include "mlx_kd/spec/verdict.h"

namespace mlx_kd::spec {

// What a pin promises.
enum class ClaimKind {
  faster_than_mlx,  // the whole interval of the speed-up lies above 1
  mlx_cannot,       // MLX has no form of the op on this device; the speed-up is over the best
                    // composition of its operators, or unmeasured where there is none
};
std::string name_of(ClaimKind kind);
ClaimKind parse_claim_kind(std::string_view name);  // misuse, naming the known ones

// A finalist of one size, re-measured against MLX at its best.
struct Claim {
  Dims dims;
  std::string candidate_id;
  Metrics
      metrics;  // latency, p10, p90, single, kernel, baseline, speed-up with its interval, errors
  bool claimed = false;
  std::string reason;    // why not
  std::string baseline;  // "plain", "compiled", "composition"; empty: there was none
  ClaimKind kind = ClaimKind::faster_than_mlx;
};

// The same kernel timed against itself: what the machine's noise alone looks like.
struct AaPair {
  Dims dims;
  double ratio = kUnmeasured, lo = kUnmeasured, hi = kUnmeasured;  // median and 95 % interval
  double spread = kUnmeasured;  // 90th over 10th percentile of the single ratios
};

}  // namespace mlx_kd::spec
