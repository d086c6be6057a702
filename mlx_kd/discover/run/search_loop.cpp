#include "mlx_kd/discover/run/search_loop.h"

#include <algorithm>
#include <cmath>

#include "mlx_kd/discover/run/walk_records.h"

namespace mlx_kd::discover {
namespace {

// So many records a run keeps before it sheds those that do not matter, and walks again when it is
// resumed.
constexpr size_t kKeptRecords = 512;

}  // namespace

Walk::Walk(const Parts& parts, const Limits& limits)
    : parts_(parts),
      limits_(limits),
      contenders_(limits.sizes, limits.finalists, limits.sizes > 0 ? kKeptRecords : 0) {}

archive::OldRecords Walk::old_records() {
  if (limits_.sizes == 0) return {};
  return {kKeptRecords, limits_.batch,
          [this](const archive::Brief& brief, const std::function<archive::Record()>& whole) {
            recall(brief, whole);
          }};
}

// In place of being walked again.
void Walk::recall(const archive::Brief& brief, const std::function<archive::Record()>& whole) {
  spec::Candidate candidate;
  candidate.variant = brief.variant;
  candidate.language = brief.language;
  candidate.knobs = brief.knobs;
  const size_t point = parts_.points->find(parts_.space->point(candidate));
  if (point < parts_.points->size())
    parts_.strategy->observe({point, !brief.benchmarked, brief.benchmarked ? brief.objective : 0,
                              brief.seconds > 0 ? brief.seconds : 1});
  visits_.push_back({point, brief.step});
  benchmarked_ += brief.benchmarked;
  next_step_ = std::max(next_step_, brief.step + 1);
  if (contenders_.wants(brief)) contenders_.add(whole());
}

void Walk::run(archive::RunWriter& writer) {
  writer_ = &writer;
  for (const auto& record : writer.so_far().records) {
    next_step_ = std::max(next_step_, record.step + 1);
    on_record_.emplace(record.candidate_id, record);
  }
  while (visits_.size() < limits_.budget && !parts_.interrupt->raised() &&
         limits_.go_on(visits_.size())) {
    const auto proposed =
        limits_.first && visits_.empty()
            ? std::vector<size_t>{*limits_.first}
            : parts_.strategy->propose(std::min(limits_.batch, limits_.budget - visits_.size()));
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
  return *std::find_if(records().begin(), records().end(), is_benchmarked);
}

// What the next candidate would have been timed against; in a log that does not say, the best.
const archive::Record& Walk::partner() const {
  const auto last = std::find_if(records().rbegin(), records().rend(), [](const auto& record) {
    return record.notes.value("incumbent", false);
  });
  return last != records().rend() ? *last : *contenders_.best();
}

void Walk::adopt_incumbent() {
  if (adopted_ || !contenders_.best()) return;
  adopted_ = true;
  parts_.evaluator->adopt(anchor().candidate, partner().candidate, log_ratios_of(partner()));
}

void Walk::evaluate(const std::vector<size_t>& fresh) {
  adopted_ = true;  // from here on the evaluator knows its own incumbent
  std::vector<spec::Candidate> batch;
  for (size_t point : fresh)
    batch.push_back(parts_.space->candidate(parts_.points->setting(point)));
  parts_.listener->trying(batch.front(), visits_.size() + 1);
  parts_.evaluator->evaluate(batch, [&](size_t i, const spec::Verdict& verdict) {
    const archive::Record* parent = contenders_.best();
    archive::Record record =
        make_record(*parts_.features, {&batch[i], fresh[i], &verdict, next_step_,
                                       parent ? parent->candidate_id : "", expected_gain_});
    ++next_step_;
    writer_->append(record);
    const std::string id = record.candidate_id;
    take(fresh[i], std::move(record));
    const archive::Record* best = contenders_.best();
    parts_.listener->evaluated(
        {visits_.size(), limits_.budget, &batch[i], &verdict, best && best->candidate_id == id,
         best ? std::exp(-best->verdict.objective) : 1, best ? best->candidate.knobs.text() : ""});
    if (i + 1 < batch.size()) parts_.listener->trying(batch[i + 1], visits_.size() + 1);
  });
}

void Walk::take(size_t point, archive::Record record) {
  if (point < parts_.points->size()) parts_.strategy->observe(observation_of(point, record));
  visits_.push_back({point, record.step});
  benchmarked_ += is_benchmarked(record);
  contenders_.add(std::move(record));
}

}  // namespace mlx_kd::discover
