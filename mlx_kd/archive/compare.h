// Two runs of one op beside each other.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/archive/run_data.h"

namespace mlx_kd::archive {

// b over a: below 1, b is the faster. The interval is NaN where either run lacks one.
struct Ratio {
  double value = spec::kUnmeasured, lo = spec::kUnmeasured, hi = spec::kUnmeasured;
};

struct KnobChange {
  std::string knob;
  std::string a, b;  // "-" where the winner's variant lacks the knob
};

struct SizeComparison {
  spec::Dims dims;
  std::string id_a, id_b;         // winners; empty: none
  spec::Metrics a, b;             // as claimed, else as searched
  Ratio kernel, latency;          // kernel_us, latency_us
  Ratio speedup;                  // speedup_vs_ref: above 1, b gains more over MLX
  std::vector<KnobChange> moved;  // empty if the winners have the same knobs
};

struct Comparison {
  std::string op_name, dtype_a, dtype_b;
  std::vector<SizeComparison> sizes;     // in the order of run a
  std::vector<std::string> differences;  // of the runs themselves: device, protocol, budget, ...
};

// Misuse unless both are of the same op and the same sizes (in whatever order).
Comparison compare(const RunData& a, const RunData& b);

std::string comparison_table(const Comparison& comparison);
base::Json comparison_json(const Comparison& comparison);

}  // namespace mlx_kd::archive
