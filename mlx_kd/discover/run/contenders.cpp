#include "mlx_kd/discover/run/contenders.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "mlx_kd/discover/run/walk_records.h"

namespace mlx_kd::discover {

bool Contenders::wants(const archive::Brief& brief) const {
  if (!brief.benchmarked) return false;
  if (!best_ || brief.incumbent || brief.objective < best()->verdict.objective) return true;
  if (last_chosen_.empty()) return true;
  for (size_t s = 0; s < std::min(last_chosen_.size(), brief.log_ratios.size()); ++s)
    if (!(brief.log_ratios[s] > last_chosen_[s])) return true;
  return false;
}

void Contenders::add(archive::Record record) {
  records_.push_back(std::move(record));
  const archive::Record& last = records_.back();
  if (is_benchmarked(last) && (!best_ || last.verdict.objective < best()->verdict.objective))
    best_ = records_.size() - 1;
  if (at_most_ > 0 && records_.size() / 2 >= at_most_) shed();
}

void Contenders::shed() {
  std::vector<bool> stays(records_.size());
  const auto first = std::find_if(records_.begin(), records_.end(), is_benchmarked);
  if (first != records_.end()) stays[static_cast<size_t>(first - records_.begin())] = true;
  if (best_) stays[*best_] = true;
  for (size_t i = records_.size(); i-- > 0;)
    if (records_[i].notes.value("incumbent", false)) {
      stays[i] = true;
      break;
    }
  last_chosen_.assign(sizes_, spec::kUnmeasured);
  for (size_t s = 0; s < sizes_; ++s) {
    std::vector<std::tuple<double, std::string, size_t>> ranked;
    for (size_t i = 0; i < records_.size(); ++i)
      if (is_benchmarked(records_[i]) && s < records_[i].verdict.sizes.size())
        ranked.emplace_back(records_[i].verdict.sizes[s].metrics.log_ratio,
                            records_[i].candidate_id, i);
    std::sort(ranked.begin(), ranked.end());
    if (ranked.size() > count_) ranked.resize(count_);
    for (const auto& [ratio, id, i] : ranked) stays[i] = true;
    if (ranked.size() == count_ && count_ > 0) last_chosen_[s] = std::get<0>(ranked.back());
  }
  const size_t best = best_ ? *best_ : 0;
  size_t kept = 0;
  for (size_t i = 0; i < records_.size(); ++i) {
    if (!stays[i]) continue;
    if (best_ && i == best) best_ = kept;
    if (i != kept) records_[kept] = std::move(records_[i]);
    ++kept;
  }
  records_.resize(kept);
}

}  // namespace mlx_kd::discover
