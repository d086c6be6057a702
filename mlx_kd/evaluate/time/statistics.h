// The statistics of measurements: pure functions, the same on every machine for the same numbers.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace mlx_kd::evaluate {

// The value below which `share` of the numbers lie, linear between neighbours (as numpy's default).
// NaN if there are none. `share` in [0, 1].
double percentile(std::vector<double> values, double share);

inline double median(std::vector<double> values) {
  return percentile(std::move(values), 0.5);
}

struct Interval {
  double middle, lo, hi;
};

// The median and its 95 % percentile bootstrap interval: the 2.5th and 97.5th percentile of the
// medians of `resamples` samples drawn from `values` with replacement. NaN if there are none.
Interval bootstrap_median(const std::vector<double>& values, int resamples, uint64_t seed);

// The median of ratios from logarithms of ratios, with its interval.
Interval bootstrap_ratio(const std::vector<double>& log_ratios, int resamples, uint64_t seed);

// The median of few ratios, from their logarithms, with their minimum and maximum. nullopt unless
// every ratio is above `least`.
std::optional<Interval> few_ratios(const std::vector<double>& log_ratios, double least);

// What several processes say of one ratio, each by the logarithm of its own median: the geometric
// mean over processes with its 95 % interval by Student's t, and the interval in which one more
// process lies with 95 % (t sqrt(1 + 1/n) standard deviations). At least two processes.
struct AcrossProcesses {
  Interval ratio;
  double expect_lo, expect_hi;
};
AcrossProcesses across_processes(const std::vector<double>& log_ratios);

}  // namespace mlx_kd::evaluate
