#include "mlx_kd/evaluate/time/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "mlx_kd/base/random.h"

namespace mlx_kd::evaluate {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

// The 97.5th percentile of Student's t for so many degrees of freedom; beyond the list by the
// expansion about the normal distribution (Abramowitz and Stegun 26.7.5), right to 1e-4 there.
double students_t(size_t freedom) {
  constexpr double kListed[] = {12.706, 4.303, 3.182, 2.776, 2.571,
                                2.447,  2.365, 2.306, 2.262, 2.228};
  if (freedom <= std::size(kListed)) return kListed[freedom - 1];
  constexpr double z = 1.959964;
  const auto v = static_cast<double>(freedom);
  return z + (z * z * z + z) / (4 * v) +
         (5 * std::pow(z, 5) + 16 * z * z * z + 3 * z) / (96 * v * v) +
         (3 * std::pow(z, 7) + 19 * std::pow(z, 5) + 17 * z * z * z - 15 * z) / (384 * v * v * v);
}

// Reorders `values`, which spares a copy a resample.
double percentile_in_place(std::vector<double>& values, double share) {
  if (values.empty()) return kNone;
  const double position = share * static_cast<double>(values.size() - 1);
  const auto lower = static_cast<std::ptrdiff_t>(position);
  const auto at = values.begin() + lower;
  std::nth_element(values.begin(), at, values.end());
  const double rest = position - static_cast<double>(lower);
  if (rest == 0) return *at;
  return *at + rest * (*std::min_element(at + 1, values.end()) - *at);
}

}  // namespace

double percentile(std::vector<double> values, double share) {
  return percentile_in_place(values, share);
}

Interval bootstrap_median(const std::vector<double>& values, int resamples, uint64_t seed) {
  if (values.empty()) return {kNone, kNone, kNone};
  base::Random random(seed);
  std::vector<double> sample(values.size()), medians;
  for (int i = 0; i < resamples; ++i) {
    for (double& drawn : sample) drawn = values[random.below(values.size())];
    medians.push_back(percentile_in_place(sample, 0.5));
  }
  return {median(values), percentile_in_place(medians, 0.025), percentile_in_place(medians, 0.975)};
}

Interval bootstrap_ratio(const std::vector<double>& log_ratios, int resamples, uint64_t seed) {
  const Interval logs = bootstrap_median(log_ratios, resamples, seed);
  return {std::exp(logs.middle), std::exp(logs.lo), std::exp(logs.hi)};
}

std::optional<Interval> few_ratios(const std::vector<double>& log_ratios, double least) {
  const auto is_nan = [](double ratio) { return std::isnan(ratio); };
  if (log_ratios.empty() || std::any_of(log_ratios.begin(), log_ratios.end(), is_nan))
    return std::nullopt;
  const auto [lo, hi] = std::minmax_element(log_ratios.begin(), log_ratios.end());
  if (!(*lo > std::log(least))) return std::nullopt;
  return Interval{std::exp(median(log_ratios)), std::exp(*lo), std::exp(*hi)};
}

AcrossProcesses across_processes(const std::vector<double>& log_ratios) {
  const auto count = static_cast<double>(log_ratios.size());
  double mean = 0, squares = 0;
  for (const double ratio : log_ratios) mean += ratio / count;
  for (const double ratio : log_ratios) squares += (ratio - mean) * (ratio - mean);
  const double spread = students_t(log_ratios.size() - 1) * std::sqrt(squares / (count - 1));
  const double sure = spread / std::sqrt(count), expected = spread * std::sqrt(1 + 1 / count);
  return {{std::exp(mean), std::exp(mean - sure), std::exp(mean + sure)},
          std::exp(mean - expected),
          std::exp(mean + expected)};
}

}  // namespace mlx_kd::evaluate
