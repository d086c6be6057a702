// What an evaluation found out about a candidate. A failed candidate is data, never an exception.
#pragma once

#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "mlx_kd/base/json.h"
#include "mlx_kd/spec/named_ints.h"

namespace mlx_kd::spec {

enum class Status {
  benchmarked,    // proved and timed
  compile_error,  // the compiler refused it, or took too long
  launch_error,   // it could not be loaded or launched
  wrong,       // an element lies outside the error bound, was not written, or a fence was touched
  unstable,    // its bits differ between runs on the same inputs
  timeout,     // proof or timing passed its time limit
  crashed,     // it took the worker down
  suspicious,  // faster than the machine can be: not a winner
};

std::string name_of(Status status);
Status parse_status(std::string_view name);  // misuse, naming the known ones
const std::vector<Status>& all_statuses();

inline constexpr double kUnmeasured = std::numeric_limits<double>::quiet_NaN();

// Times in us, NaN where not measured; errors against MLX in the same type.
struct Metrics {
  double latency_us = kUnmeasured;  // median of an op in `graph` mode
  double p10_us = kUnmeasured,
         p90_us = kUnmeasured;       // of latency_us where measured, else of kernel_us
  double single_us = kUnmeasured;    // one eval and synchronize a call
  double kernel_us = kUnmeasured;    // the kernel's own time
  double baseline_us = kUnmeasured;  // MLX at its best, in `graph` mode
  double speedup_vs_ref = kUnmeasured, speedup_lo = kUnmeasured,
         speedup_hi = kUnmeasured;  // paired, 95 % interval; over processes if there were several
  double expect_lo = kUnmeasured,
         expect_hi = kUnmeasured;  // 95 % of fresh processes see a speed-up within these
  double gbps_est = kUnmeasured;   // least bytes / kernel_us
  double correctness_max_abs_err = kUnmeasured, correctness_max_rel_err = kUnmeasured;
  double error_bound_used = kUnmeasured;  // largest |y - y64| / bound; <= 1 when correct
  double compile_time_ms = kUnmeasured;
  double log_ratio = kUnmeasured;  // log(kernel_us / that of the run's first candidate), paired
  bool bit_exact = false;          // the fixed rows equal MLX's bits
  bool cold = false;               // caches flushed before each sample
};

// Keys as the members are called; unmeasured ones are left out. from_json takes what is there.
base::Json to_json(const Metrics& metrics);
Metrics metrics_from_json(const base::Json& value);

struct SizeMetrics {
  Dims dims;  // complete
  Metrics metrics;
};

struct Verdict {
  Status status = Status::crashed;
  std::string reason;  // why, when not benchmarked: one line with values
  Metrics metrics;     // over all sizes: medians of times are geometric means, errors are maxima
  std::vector<SizeMetrics> sizes;  // in the suite's order; empty unless benchmarked or suspicious
  // What the search minimises: mean over sizes of log_ratio. NaN unless benchmarked.
  double objective = kUnmeasured;
  std::string timed_against;  // id of the candidate that shared its pairs; empty: it was the first
  bool is_incumbent = false;  // from here on others are timed against it
  // Where the wall time of this evaluation went, in s: {"compile": .., "prove": .., "time": ..}.
  base::Json seconds = base::Json::object();
};

// Fills metrics and objective from sizes.
void summarise(Verdict& verdict);

}  // namespace mlx_kd::spec
