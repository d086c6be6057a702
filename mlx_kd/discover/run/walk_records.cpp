#include "mlx_kd/discover/run/walk_records.h"

namespace mlx_kd::discover {
namespace {

// What an evaluation took, in s: what the strategy may weigh gains against. 1 where nothing was
// measured.
double cost_of(const spec::Verdict& verdict) {
  double sum = 0;
  for (const auto& [stage, seconds] : verdict.seconds.items()) sum += seconds.get<double>();
  return sum > 0 ? sum : 1;
}

}  // namespace

search::Observation observation_of(size_t point, const archive::Record& record) {
  const bool benchmarked = is_benchmarked(record);
  return {point, !benchmarked, benchmarked ? record.verdict.objective : 0, cost_of(record.verdict)};
}

std::vector<double> log_ratios_of(const archive::Record& record) {
  std::vector<double> result;
  for (const auto& size : record.verdict.sizes) result.push_back(size.metrics.log_ratio);
  return result;
}

archive::Record make_record(const search::Features& features, const Evaluated& evaluated) {
  archive::Record record;
  record.step = evaluated.step;
  record.candidate_id = evaluated.candidate->id();
  record.parent_id = evaluated.parent_id;
  record.candidate = *evaluated.candidate;
  record.features = search::feature_vector(features, evaluated.point);
  const spec::Verdict& verdict = record.verdict = *evaluated.verdict;
  if (!verdict.timed_against.empty()) record.notes["timed_against"] = verdict.timed_against;
  if (verdict.is_incumbent) record.notes["incumbent"] = true;
  if (evaluated.expected_gain) record.notes["expected_gain"] = *evaluated.expected_gain;
  return record;
}

}  // namespace mlx_kd::discover
