#include "mlx_kd/discover/run/search_loop.h"

#include <algorithm>
#include <cmath>

#include "mlx_kd/discover/run/walk_records.h"

namespace mlx_kd::discover {

Walk::Walk(const Parts& parts, const Limits& limits) : parts_(parts), limits_(limits) {
  for (const auto& record : parts_.writer->so_far().records) {
    next_step_ = std::max(next_step_, record.step + 1);
    on_record_.emplace(record.candidate_id, record);
  }
}

void Walk::run() {
  while (records_.size() < limits_.budget && !parts_.interrupt->raised() &&
         limits_.go_on(records_.size())) {
    const auto proposed =
        parts_.strategy->propose(std::min(limits_.batch, limits_.budget - records_.size()));
    if (proposed.empty()) break;
    expected_gain_ = parts_.strategy->expected_gain();
    std::vector<size_t> fresh;
    replay(proposed, fresh);
    if (fresh.empty()) continue;
    replay_strays();
    adopt_incumbent();
    evaluate(fresh);
  }
  replay_strays();
}

void Walk::replay(const std::vector<size_t>& proposed, std::vector<size_t>& fresh) {
  for (size_t point : proposed) {
    const auto found = on_record_.find(parts_.space->candidate(parts_.points->setting(point)).id());
    if (found == on_record_.end()) {
      fresh.push_back(point);
      continue;
    }
    archive::Record record = std::move(found->second);
    on_record_.erase(found);
    take(point, std::move(record));
  }
}

// Records that the walk does not pass, as with another budget than the broken run had: they count
// all the same.
void Walk::replay_strays() {
  std::vector<archive::Record> strays;
  for (auto& [id, record] : on_record_) strays.push_back(std::move(record));
  on_record_.clear();
  std::sort(strays.begin(), strays.end(),
            [](const auto& a, const auto& b) { return a.step < b.step; });
  for (auto& record : strays)
    take(parts_.points->find(parts_.space->point(record.candidate)), std::move(record));
}

// Where log ratios are 0.
const archive::Record& Walk::anchor() const {
  return *std::find_if(records_.begin(), records_.end(), is_benchmarked);
}

// What the next candidate would have been timed against; in a log that does not say, the best.
const archive::Record& Walk::partner() const {
  const auto last = std::find_if(records_.rbegin(), records_.rend(), [](const auto& record) {
    return record.notes.value("incumbent", false);
  });
  return last != records_.rend() ? *last : records_[*incumbent_];
}

void Walk::adopt_incumbent() {
  if (adopted_ || !incumbent_) return;
  adopted_ = true;
  parts_.evaluator->adopt(anchor().candidate, partner().candidate, log_ratios_of(partner()));
}

void Walk::evaluate(const std::vector<size_t>& fresh) {
  adopted_ = true;  // from here on the evaluator knows its own incumbent
  std::vector<spec::Candidate> batch;
  for (size_t point : fresh)
    batch.push_back(parts_.space->candidate(parts_.points->setting(point)));
  parts_.listener->trying(batch.front(), records_.size() + 1);
  parts_.evaluator->evaluate(batch, [&](size_t i, const spec::Verdict& verdict) {
    archive::Record record = make_record(
        *parts_.features, {&batch[i], fresh[i], &verdict, next_step_,
                           incumbent_ ? records_[*incumbent_].candidate_id : "", expected_gain_});
    ++next_step_;
    parts_.writer->append(record);
    take(fresh[i], std::move(record));
    const auto& best = incumbent_ ? &records_[*incumbent_] : nullptr;
    parts_.listener->evaluated({records_.size(), limits_.budget, &batch[i], &verdict,
                                incumbent_ && *incumbent_ + 1 == records_.size(),
                                best ? std::exp(-best->verdict.objective) : 1,
                                best ? best->candidate.knobs.text() : ""});
    if (i + 1 < batch.size()) parts_.listener->trying(batch[i + 1], records_.size() + 1);
  });
}

void Walk::take(size_t point, archive::Record record) {
  const bool benchmarked = is_benchmarked(record);
  if (point < parts_.points->size()) parts_.strategy->observe(observation_of(point, record));
  records_.push_back(std::move(record));
  if (benchmarked &&
      (!incumbent_ || records_.back().verdict.objective < records_[*incumbent_].verdict.objective))
    incumbent_ = records_.size() - 1;
}

}  // namespace mlx_kd::discover
