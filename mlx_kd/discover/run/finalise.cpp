#include "mlx_kd/discover/run/finalise.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>
#include <utility>

#include "mlx_kd/archive/report/report.h"
#include "mlx_kd/archive/run/run_reader.h"
#include "mlx_kd/base/clock.h"
#include "mlx_kd/discover/choice.h"
#include "mlx_kd/discover/dim_ranges.h"
#include "mlx_kd/discover/make_entry.h"
#include "mlx_kd/discover/run/tour_steps.h"
#include "mlx_kd/discover/run/walk_records.h"
#include "mlx_kd/packs/ranges.h"

namespace mlx_kd::discover {
namespace {

using Claims = std::vector<evaluate::Claim>;
using Winners = std::vector<const evaluate::Claim*>;
using Ranges = std::vector<RangeClaim>;

constexpr double kDrift = 1.2;  // a process's times differ by less on a machine that stays the same

const archive::Record& record_of(const std::vector<archive::Record>& records,
                                 const std::string& id) {
  return *std::find_if(records.begin(), records.end(),
                       [&](const auto& r) { return r.candidate_id == id; });
}

size_t count_distinct(const std::vector<std::vector<spec::Candidate>>& finalists) {
  std::set<std::string> ids;
  for (const auto& of_size : finalists)
    for (const auto& candidate : of_size) ids.insert(candidate.id());
  return ids.size();
}

// The kernels of ranges take their sizes' places among the winners.
Ranges take_ranges(const Finals& finals, const Claims& claims, const std::vector<spec::Dims>& sizes,
                   Winners& winners) {
  if (finals.request->ranges.empty()) return {};
  Ranges ranges = choose_ranges(finals.setup->op, finals.request->ranges, claims, sizes, winners);
  for (const RangeClaim& range : ranges) winners[range.size] = range.claim;
  return ranges;
}

packs::Pack make_pack(const Finals& finals, const Winners& winners, const Ranges& ranges) {
  const RunSetup& setup = *finals.setup;
  packs::Pack pack;
  pack.runtime = setup.evaluator->runtime();
  const Measuring where{&setup.op, setup.device.get(), setup.evaluator.get()};
  for (size_t s = 0; s < winners.size(); ++s) {
    if (!winners[s]) continue;
    packs::Entry& pin = pack.entries.emplace_back(
        pin_of(where, record_of(*finals.records, winners[s]->candidate_id).candidate, *winners[s]));
    for (const RangeClaim& range : ranges)
      if (range.size == s && !spec::is_metal_body(pin.language, pin.launch_params))
        packs::set_ranges(pin, range.ranges, setup.op.batch_dim);
  }
  return pack;
}

RangeResult range_result(const RangeClaim& range) {
  return {range.claim->dims, range.ranges, range.claim->candidate_id};
}

// By how much a kernel's own time was longer when it was re-measured than when it was tried, over
// all claims; 1 if nothing was timed twice.
double drift(const Claims& claims, const std::vector<archive::Record>& records) {
  double sum = 0;
  int count = 0;
  for (const auto& claim : claims)
    for (const auto& size : record_of(records, claim.candidate_id).verdict.sizes) {
      const double ratio = std::log(claim.metrics.kernel_us / size.metrics.kernel_us);
      if (claim.dims == size.dims && std::isfinite(ratio)) sum += ratio, ++count;
    }
  return count ? std::exp(sum / count) : 1;
}

std::vector<std::string> remarks_of(const Finals& finals, const Claims& claims) {
  std::vector<std::string> result = finals.setup->remarks;
  const double ratio = drift(claims, *finals.records);
  if (ratio < kDrift && ratio > 1 / kDrift) return result;
  char text[200];
  std::snprintf(
      text, sizeof text,
      "The machine drifted: the finalists took %.2f times as long at the end as when they "
      "were tried. Ratios come from pairs and hold; times of different moments do not "
      "compare.",
      ratio);
  result.push_back(text);
  return result;
}

archive::Finish make_finish(const Finals& finals, const Claims& claims, const Winners& winners,
                            const Ranges& ranges, const std::vector<std::string>& remarks) {
  archive::Finish finish;
  for (const auto* claim : winners)
    if (claim) finish.winners.push_back({claim->dims, claim->candidate_id});
  finish.claims = claims;
  finish.aa = finals.setup->evaluator->aa();
  finish.tours = tour_steps(*finals.setup->strategy, *finals.visits);
  if (!finals.request->ranges.empty()) finish.notes["row_ranges"] = base::Json::array();
  if (!remarks.empty()) finish.notes["remarks"] = remarks;
  for (const RangeClaim& range : ranges)
    finish.notes["row_ranges"].push_back(to_json(range_result(range), finals.setup->op));
  finish.seconds = finals.setup->evaluator->seconds();
  finish.seconds["wall"] = base::seconds_since(finals.setup->start_ns);
  return finish;
}

// Log ratios are 0 at the first record that was benchmarked.
bool begins_with_default(const Finals& finals) {
  if (!finals.request->from_default) return false;
  const auto first = std::find_if(finals.records->begin(), finals.records->end(), is_benchmarked);
  const CandidateSpace& space = finals.setup->space;
  return first != finals.records->end() &&
         first->candidate_id == space.candidate(space.default_point()).id();
}

SizeResult size_result(const Finals& finals, size_t index, const evaluate::Claim* winner,
                       const Claims& claims) {
  SizeResult result;
  result.dims = finals.setup->sizes.sizes[index];
  result.won = winner != nullptr;
  const auto* const shown = winner ? winner : best_attempt(claims, result.dims);
  if (!shown) return result;
  const archive::Record& record = record_of(*finals.records, shown->candidate_id);
  result.claim = *shown;
  result.knobs = record.candidate.knobs.text();
  const double log_ratio = record.verdict.sizes[index].metrics.log_ratio;
  if (begins_with_default(finals) && std::isfinite(log_ratio))
    result.over_default = std::exp(-log_ratio);
  return result;
}

using Finalists = std::vector<std::vector<spec::Candidate>>;  // of each size

Finalists finalists_of(const Finals& finals) {
  const RunRequest& request = *finals.request;
  const std::vector<spec::Dims>& sizes = finals.setup->sizes.sizes;
  auto finalists = choose_finalists(*finals.records, sizes.size(), request.finalists);
  if (!request.ranges.empty())
    add_range_finalists(finals.setup->op, request.ranges, *finals.records, sizes, request.finalists,
                        finalists);
  return finalists;
}

// The claims of the log, where they are of these finalists and nothing was tried since.
const Claims* written_claims(const Finals& finals, const Finalists& finalists) {
  if (!finals.log || !finals.log->finish) return nullptr;
  if (finals.log->older + finals.log->records.size() != finals.visits->size()) return nullptr;
  std::set<std::pair<std::string, std::string>> claimed, asked;
  for (const auto& claim : finals.log->finish->claims)
    claimed.emplace(claim.dims.json().dump(), claim.candidate_id);
  for (size_t s = 0; s < finalists.size(); ++s)
    for (const auto& candidate : finalists[s])
      asked.emplace(finals.setup->sizes.sizes[s].json().dump(), candidate.id());
  return claimed == asked ? &finals.log->finish->claims : nullptr;
}

// What was claimed of each size and range.
Conclusion conclusion_of(const Finals& finals, const Claims& claims, bool are_written) {
  const std::vector<spec::Dims>& sizes = finals.setup->sizes.sizes;
  Winners winners = choose_winners(claims, sizes);
  const Ranges ranges = take_ranges(finals, claims, sizes, winners);
  Conclusion result;
  result.remarks = remarks_of(finals, claims);
  if (!are_written) result.finish = make_finish(finals, claims, winners, ranges, result.remarks);
  result.pack = make_pack(finals, winners, ranges);
  for (size_t s = 0; s < sizes.size(); ++s)
    result.sizes.push_back(size_result(finals, s, winners[s], claims));
  for (const RangeClaim& range : ranges) result.ranges.push_back(range_result(range));
  return result;
}

}  // namespace

base::Json to_json(const RangeResult& range, const spec::Op& op) {
  packs::Entry entry;
  packs::set_ranges(entry, range.ranges, op.batch_dim);
  base::Json result = {{"shape", range.dims.json()}, {"candidate_id", range.candidate_id}};
  packs::write_ranges(entry, result);
  return result;
}

std::optional<Conclusion> conclude(const Finals& finals, Listener& listener,
                                   const Interrupt& interrupt) {
  const Finalists finalists = finalists_of(finals);
  const Claims* const written = written_claims(finals, finalists);
  Claims claims;
  if (written) {
    claims = *written;
  } else if (!interrupt.raised()) {
    listener.stage("re-measuring " + std::to_string(count_distinct(finalists)) +
                   " finalists against MLX");
    claims = finals.setup->evaluator->claims(finalists);
  }
  if (interrupt.raised()) return std::nullopt;
  return conclusion_of(finals, claims, written != nullptr);
}

RunOutcome outcome_of(const Finals& finals, const std::optional<Conclusion>& conclusion) {
  RunOutcome outcome;
  outcome.evaluated = finals.visits->size();
  outcome.benchmarked = finals.benchmarked;
  outcome.seconds = base::seconds_since(finals.setup->start_ns);
  outcome.interrupted = !conclusion;
  if (!conclusion) return outcome;
  outcome.sizes = conclusion->sizes;
  outcome.ranges = conclusion->ranges;
  outcome.remarks = conclusion->remarks;
  return outcome;
}

RunOutcome finish_run(const Finals& finals, archive::RunWriter& writer, Listener& listener,
                      const Interrupt& interrupt) {
  const auto conclusion = conclude(finals, listener, interrupt);
  if (conclusion) {
    if (conclusion->finish) writer.append(*conclusion->finish);
    writer.write_winners(packs::write_text(conclusion->pack));
  }
  archive::write_report(writer.dir(), archive::read_run_digest(writer.dir()));
  return outcome_of(finals, conclusion);
}

}  // namespace mlx_kd::discover
