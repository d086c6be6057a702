#include "mlx_kd/archive/report/knob_effects.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "mlx_kd/archive/report/analysis.h"

namespace mlx_kd::archive {
namespace {

constexpr int kRounds = 60;  // backfitting converges linearly; 60 rounds leave nothing to see

// A knob as a column of levels: level[i] of candidate i, -1 where its variant lacks the knob.
struct Factor {
  std::string name;
  std::vector<std::string> values;
  std::vector<int> level;
  std::vector<double> effect;  // a level
};

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const size_t middle = values.size() / 2;
  std::nth_element(values.begin(), values.begin() + middle, values.end());
  if (values.size() % 2) return values[middle];
  return (values[middle] + *std::max_element(values.begin(), values.begin() + middle)) / 2;
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (double value : values) sum += value;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

double covariance(const std::vector<double>& a, const std::vector<double>& b) {
  const double centre_a = mean(a), centre_b = mean(b);
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - centre_a) * (b[i] - centre_b);
  return a.empty() ? 0 : sum / static_cast<double>(a.size());
}

double variance(const std::vector<double>& values) {
  return covariance(values, values);
}

Factor knob_factor(const std::string& name, const std::vector<const Record*>& records) {
  std::set<int64_t> values;
  for (const Record* record : records)
    if (record->candidate.knobs.has(name)) values.insert(record->candidate.knobs.at(name));
  Factor factor{name, {}, {}, std::vector<double>(values.size(), 0)};
  for (int64_t value : values) factor.values.push_back(std::to_string(value));
  for (const Record* record : records) {
    const bool there = record->candidate.knobs.has(name);
    const auto at = there ? values.find(record->candidate.knobs.at(name)) : values.end();
    factor.level.push_back(there ? static_cast<int>(std::distance(values.begin(), at)) : -1);
  }
  return factor;
}

Factor variant_factor(const std::vector<const Record*>& records) {
  std::set<std::string> names;
  for (const Record* record : records) names.insert(record->candidate.variant);
  Factor factor{"variant", {names.begin(), names.end()}, {}, std::vector<double>(names.size(), 0)};
  for (const Record* record : records)
    factor.level.push_back(
        static_cast<int>(std::distance(names.begin(), names.find(record->candidate.variant))));
  return factor;
}

std::vector<Factor> factors_of(const std::vector<const Record*>& records) {
  std::set<std::string> names;
  for (const Record* record : records)
    for (const auto& item : record->candidate.knobs.items()) names.insert(item.first);
  std::vector<Factor> factors = {variant_factor(records)};
  for (const std::string& name : names) factors.push_back(knob_factor(name, records));
  factors.erase(std::remove_if(factors.begin(), factors.end(),
                               [](const Factor& f) { return f.values.size() < 2; }),
                factors.end());
  return factors;
}

// One step of backfitting: the factor's effects become the mean of what the others leave.
void refit(Factor& factor, std::vector<double>& residual) {
  std::vector<double> sum(factor.values.size(), 0), count(factor.values.size(), 0);
  for (size_t i = 0; i < residual.size(); ++i) {
    if (factor.level[i] < 0) continue;
    sum[factor.level[i]] += residual[i] + factor.effect[factor.level[i]];
    count[factor.level[i]] += 1;
  }
  for (size_t i = 0; i < residual.size(); ++i)
    if (factor.level[i] >= 0)
      residual[i] += factor.effect[factor.level[i]] - sum[factor.level[i]] / count[factor.level[i]];
  for (size_t v = 0; v < sum.size(); ++v) factor.effect[v] = sum[v] / count[v];
}

KnobEffect effect_of(const Factor& factor, const std::vector<double>& centred, double total) {
  std::vector<double> fitted;
  for (int level : factor.level) fitted.push_back(level < 0 ? 0 : factor.effect[level]);
  KnobEffect result{factor.name, total > 0 ? covariance(fitted, centred) / total : 0, {}};
  const double best = *std::min_element(factor.effect.begin(), factor.effect.end());
  for (size_t v = 0; v < factor.values.size(); ++v) {
    std::vector<double> with;
    for (size_t i = 0; i < centred.size(); ++i)
      if (factor.level[i] == static_cast<int>(v)) with.push_back(centred[i]);
    result.values.push_back({factor.values[v], with.size(), std::exp(factor.effect[v] - best),
                             std::exp(median(with) - median(centred))});
  }
  return result;
}

}  // namespace

KnobNotes knob_notes(const RunData& run) {
  std::vector<const Record*> records;
  std::vector<double> centred;
  const std::vector<double> all = scores(run);
  for (size_t i = 0; i < all.size(); ++i) {
    if (!std::isfinite(all[i])) continue;
    records.push_back(&run.records[i]);
    centred.push_back(all[i]);
  }
  const double centre = mean(centred), total = variance(centred);
  for (double& value : centred) value -= centre;
  std::vector<Factor> factors = factors_of(records);
  std::vector<double> residual = centred;
  for (int round = 0; round < kRounds; ++round)
    for (Factor& factor : factors) refit(factor, residual);
  KnobNotes notes;
  notes.candidates = records.size();
  notes.explained = total > 0 ? 1 - variance(residual) / total : 0;
  for (const Factor& factor : factors) notes.knobs.push_back(effect_of(factor, centred, total));
  std::stable_sort(notes.knobs.begin(), notes.knobs.end(),
                   [](const KnobEffect& a, const KnobEffect& b) { return a.share > b.share; });
  return notes;
}

}  // namespace mlx_kd::archive
