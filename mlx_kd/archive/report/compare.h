// Two runs of one op next to each other.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/archive/run/run_data.h"

namespace mlx_kd::archive {

// b over a. The interval is that of two independent estimates (half-widths of the logarithms add as
// squares); NaN where either run lacks one.
struct Ratio {
  double value = spec::kUnmeasured, lo = spec::kUnmeasured, hi = spec::kUnmeasured;
};

struct KnobChange {
  std::string knob;  // or "variant"
  std::string a, b;  // "-" where the variant lacks the knob
};

// The winners of a size; where a run has none, its best so far.
struct SizeComparison {
  spec::Dims dims;
  std::string id_a, id_b;             // empty: nothing was measured
  bool won_a = false, won_b = false;  // the run claims it
  spec::Metrics a, b;                 // of the claims, else of the search
  Ratio kernel;                       // kernel_us; below 1, b is the faster
  Ratio latency;                      // latency_us; interval from p10 and p90: 80 % of the samples
  Ratio speedup;                      // speedup_vs_ref, 95 %; above 1, b gains more over MLX
  std::vector<KnobChange> moved;      // empty if the knobs are the same
};

struct Comparison {
  std::string op_name;
  std::vector<SizeComparison> sizes;     // in the order of run a
  std::vector<std::string> differences;  // of the runs themselves: "budget: 50 -> 200"
};

// Misuse unless both are of the same op and the same sizes (in whatever order).
Comparison compare(const RunData& a, const RunData& b);

std::string comparison_table(const Comparison& comparison);
base::Json comparison_json(const Comparison& comparison);

}  // namespace mlx_kd::archive
