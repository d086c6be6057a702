#include "mlx_kd/discover/cluster/rank_walk.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/discover/cluster/agreement.h"
#include "mlx_kd/discover/run/walk_records.h"
#include "mlx_kd/spec/count.h"

namespace mlx_kd::discover {
namespace {

// Who measured it, as its notes say; rank 0 where they do not.
int rank_of(const archive::Record& record) {
  if (!record.notes.contains("rank")) return 0;
  const uint64_t rank = spec::count_of(record.notes["rank"]);
  return rank < kMaxRanks ? static_cast<int>(rank) : 0;
}

}  // namespace

RankWalk::RankWalk(const Parts& parts) : parts_(parts) {
  for (const archive::Record& record : parts_.own_log->so_far().records)
    own_step_ = std::max(own_step_, record.step + 1);
  const RunRequest& request = *parts_.request;
  for (size_t i = 0; i < parts_.kinds->size(); ++i) {
    const std::vector<int>& ranks = (*parts_.kinds)[i].ranks;
    searches_.push_back({Rounds(request.budget, request.batch, ranks.size()),
                         SharedRecords(request.seed, parts_.setup->sizes.sizes),
                         {}});
    const auto own = std::find(ranks.begin(), ranks.end(), parts_.ranks->rank());
    if (own == ranks.end()) continue;
    own_kind_ = i;
    place_ = static_cast<size_t>(own - ranks.begin());
  }
}

void RankWalk::know(size_t kind, const std::vector<archive::Record>& records, bool in_log) {
  for (const archive::Record& record : records) {
    if (searches_[kind].known.count(record.candidate_id)) continue;
    keep(kind, record, rank_of(record), in_log);
    if (kind == own_kind_) hear_of(records_.back());
  }
}

void RankWalk::run() {
  learn();
  begin();
  const auto over = [](const Search& search) { return search.rounds.over(); };
  while (!std::all_of(searches_.begin(), searches_.end(), over)) meet(evaluate());
}

void RankWalk::begin() {
  for (Search& search : searches_) search.rounds.start(search.known.size(), search.benchmarked > 0);
  if (!searches_[own_kind_].rounds.anchored()) return;
  deal();
  adopt();
}

// From the anchor on every rank proposes points of its own.
void RankWalk::deal() {
  const size_t ranks = (*parts_.kinds)[own_kind_].ranks.size();
  if (ranks > 1) parts_.setup->strategy->take_share(place_, ranks);
}

std::vector<archive::Record> RankWalk::evaluate() {
  std::vector<archive::Record> found;
  const uint64_t share = searches_[own_kind_].rounds.share_of(place_);
  const auto proposed = share ? parts_.setup->strategy->propose(share) : std::vector<size_t>();
  expected_gain_ = parts_.setup->strategy->expected_gain();
  if (proposed.empty()) return found;
  const auto turn = parts_.turn->take(*parts_.interrupt);
  evaluate(proposed, found);
  return found;
}

void RankWalk::evaluate(const std::vector<size_t>& proposed, std::vector<archive::Record>& found) {
  const RunSetup& setup = *parts_.setup;
  const bool anchored = searches_[own_kind_].rounds.anchored();
  std::vector<spec::Candidate> batch;
  for (const size_t point : proposed)
    batch.push_back(setup.space.candidate(setup.points.setting(point)));
  parts_.listener->trying(batch.front(), records_.size() + 1);
  setup.evaluator->evaluate(batch, [&](size_t i, const spec::Verdict& verdict) {
    archive::Record record =
        make_record(setup.features, {&batch[i], proposed[i], &verdict, own_step_++,
                                     best_ ? records_[*best_].candidate_id : "", expected_gain_});
    record.notes["rank"] = parts_.ranks->rank();
    record.ts = base::iso_time_now();
    parts_.own_log->append(record);
    if (verdict.is_incumbent) incumbent_ = record.candidate_id;
    if (anchored) {
      setup.strategy->observe(observation_of(proposed[i], record));
      mine_.insert(record.candidate_id);
    }
    found.push_back(std::move(record));
    show(found.back(), records_.size() + found.size());
    if (i + 1 < batch.size())
      parts_.listener->trying(batch[i + 1], records_.size() + found.size() + 1);
  });
}

void RankWalk::meet(const std::vector<archive::Record>& found) {
  const Search& own = searches_[own_kind_];
  const bool anchored = own.rounds.anchored();
  const auto parts = meet_all(*parts_.ranks, true, [&] {
    RoundReport report{found.size(), !found.empty() && is_benchmarked(found.front()),
                       !parts_.setup->goes_on(*parts_.request, records_.size())};
    // All try the same anchor: its source is wanted once.
    base::Json mine = to_json(report);
    mine["records"] = own.shared.lines_of(found, anchored || place_ == 0);
    return mine.dump();
  });
  std::vector<base::Json> reports;
  for (const std::string& part : parts)
    reports.push_back(base::parse_json(part, "discover", "the report of a rank"));
  for (size_t kind = 0; kind < searches_.size(); ++kind) merge(kind, reports);
  learn();
  if (searches_[own_kind_].rounds.anchored()) adopt();
  if (!records_.empty()) show(records_.back(), records_.size());
}

void RankWalk::merge(size_t kind, const std::vector<base::Json>& reports) {
  Search& search = searches_[kind];
  const bool wanted = kind == own_kind_ || !parts_.logs->empty();
  const bool anchored = search.rounds.anchored();
  std::vector<RoundReport> rounds;
  std::vector<std::vector<archive::Record>> tried;
  for (const int rank : (*parts_.kinds)[kind].ranks) {
    const base::Json& report = reports.at(static_cast<size_t>(rank));
    rounds.push_back(report_from_json(report));
    if (!wanted) continue;
    auto records = search.shared.read(report.at("records"));
    if (!anchored)
      tried.push_back(std::move(records));
    else
      take(kind, std::move(records), rank);
  }
  search.rounds.take(rounds);
  if (!anchored && wanted) settle_anchor(kind, std::move(tried), search.rounds.anchored());
}

void RankWalk::take(size_t kind, std::vector<archive::Record> records, int rank) {
  for (archive::Record& record : records) {
    if (searches_[kind].known.count(record.candidate_id)) continue;
    keep(kind, std::move(record), rank, false);
    if (kind == own_kind_ && !mine_.count(records_.back().candidate_id)) hear_of(records_.back());
  }
}

// A kernel that fails on one machine of its kind fails; else what the first of the ranks measured
// is what is recorded.
void RankWalk::settle_anchor(size_t kind, std::vector<std::vector<archive::Record>> tried,
                             bool settled) {
  std::erase_if(tried, [](const auto& records) { return records.empty(); });
  if (tried.empty()) return;
  const auto failed = std::find_if(tried.begin(), tried.end(), [](const auto& records) {
    return !is_benchmarked(records.front());
  });
  archive::Record record = (failed == tried.end() ? tried.front() : *failed).front();
  if (settled) {
    for (auto& size : record.verdict.sizes) size.metrics.log_ratio = 0;
    spec::summarise(record.verdict);
    record.notes["incumbent"] = true;
  }
  // An evaluator that took another one for the anchor learns of this one.
  if (settled && kind == own_kind_ && !records_.empty()) incumbent_.clear();
  take(kind, {record}, rank_of(record));
  if (settled && kind == own_kind_) deal();
}

// In the log of rank 0 and, of this rank's own device, among the records.
void RankWalk::keep(size_t kind, archive::Record record, int rank, bool in_log) {
  Search& search = searches_[kind];
  record.step = in_log ? record.step : search.next_step;
  record.notes["rank"] = rank;
  search.next_step = std::max(search.next_step, record.step + 1);
  search.known.insert(record.candidate_id);
  search.benchmarked += is_benchmarked(record);
  if (!in_log && !parts_.logs->empty()) search.to_log.push_back(record);
  if (kind != own_kind_) return;
  visits_.push_back({point_of(record), record.step});
  records_.push_back(std::move(record));
  const auto objective = [&](size_t i) { return records_[i].verdict.objective; };
  const size_t last = records_.size() - 1;
  if (is_benchmarked(records_[last]) && (!best_ || objective(last) < objective(*best_)))
    best_ = last;
}

size_t RankWalk::point_of(const archive::Record& record) const {
  const RunSetup& setup = *parts_.setup;
  return setup.points.find(setup.space.point(record.candidate));
}

// What others found is learned at once, by learn().
void RankWalk::hear_of(const archive::Record& record) {
  const size_t point = point_of(record);
  if (point < parts_.setup->points.size()) heard_.push_back(observation_of(point, record));
}

void RankWalk::learn() {
  for (size_t kind = 0; kind < parts_.logs->size(); ++kind)
    parts_.logs->at(kind).append_all(std::exchange(searches_[kind].to_log, {}));
  parts_.setup->strategy->observe_all(heard_);
  heard_.clear();
}

// What candidates are timed against: the best of those that beat their own beyond doubt.
const archive::Record* RankWalk::incumbent() const {
  const archive::Record* found = nullptr;
  for (const archive::Record& record : records_)
    if (is_benchmarked(record) && record.notes.value("incumbent", false) &&
        (!found || record.verdict.objective < found->verdict.objective))
      found = &record;
  return found;
}

void RankWalk::adopt() {
  const auto anchor = std::find_if(records_.begin(), records_.end(), is_benchmarked);
  const archive::Record* partner = incumbent();
  if (!partner) partner = &*anchor;  // in a log that does not say
  if (incumbent_ == partner->candidate_id) return;
  incumbent_ = partner->candidate_id;
  parts_.setup->evaluator->adopt(anchor->candidate, partner->candidate, log_ratios_of(*partner));
}

void RankWalk::show(const archive::Record& record, uint64_t number) {
  const archive::Record* leader = best_ ? &records_[*best_] : nullptr;
  parts_.listener->evaluated({number, parts_.request->budget, &record.candidate, &record.verdict,
                              false, leader ? std::exp(-leader->verdict.objective) : 1,
                              leader ? leader->candidate.knobs.text() : ""});
}

}  // namespace mlx_kd::discover
