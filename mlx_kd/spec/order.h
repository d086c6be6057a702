// The one order of candidates: which of two measurements is the better winner. Choice, report and
// merge all use it. Intervals gate claims; they never break ties.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/spec/verdict.h"

namespace mlx_kd::spec {

// kernel_us (latency_us where either lacks it), then latency_us, then id. An unmeasured time ranks
// last. On three candidates or more of which only some have kernel_us this is no order (a ring is
// possible): use rank().
bool ranks_before(const Metrics& a, const std::string& id_a, const Metrics& b,
                  const std::string& id_b);

struct Ranked {
  const Metrics* metrics;  // not owned
  std::string id;
};

// Indices into `candidates`, best first: ranks_before where all have kernel_us; where one lacks it
// all go by latency_us, then id. Equal ones stay in the order of `candidates`.
std::vector<size_t> rank(const std::vector<Ranked>& candidates);

}  // namespace mlx_kd::spec
