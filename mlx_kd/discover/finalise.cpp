#include "mlx_kd/discover/finalise.h"

#include <algorithm>
#include <set>

#include "mlx_kd/archive/report/report.h"
#include "mlx_kd/archive/run/run_reader.h"
#include "mlx_kd/base/clock.h"
#include "mlx_kd/discover/choice.h"
#include "mlx_kd/discover/dim_ranges.h"
#include "mlx_kd/discover/make_entry.h"
#include "mlx_kd/packs/pack.h"
#include "mlx_kd/packs/ranges.h"

namespace mlx_kd::discover {
namespace {

using Claims = std::vector<evaluate::Claim>;
using Winners = std::vector<const evaluate::Claim*>;
using Ranges = std::vector<RangeClaim>;

const spec::Candidate& candidate_of(const std::vector<archive::Record>& records,
                                    const std::string& id) {
  return std::find_if(records.begin(), records.end(),
                      [&](const auto& r) { return r.candidate_id == id; })
      ->candidate;
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
  if (finals.ranges.empty()) return {};
  Ranges ranges = choose_ranges(*finals.op, finals.ranges, claims, sizes, winners);
  for (const RangeClaim& range : ranges) winners[range.size] = range.claim;
  return ranges;
}

packs::Pack make_pack(const Finals& finals, const Winners& winners, const Ranges& ranges,
                      const std::vector<archive::Record>& records) {
  packs::Pack pack;
  pack.runtime = finals.evaluator->runtime();
  const Measuring where{finals.op, finals.device, finals.evaluator};
  for (size_t s = 0; s < winners.size(); ++s) {
    if (!winners[s]) continue;
    packs::Entry& pin = pack.entries.emplace_back(
        pin_of(where, candidate_of(records, winners[s]->candidate_id), *winners[s]));
    for (const RangeClaim& range : ranges)
      if (range.size == s && !spec::is_metal_body(pin.language, pin.launch_params))
        packs::set_ranges(pin, range.ranges, finals.op->batch_dim);
  }
  return pack;
}

RangeResult range_result(const RangeClaim& range) {
  return {range.claim->dims, range.ranges, range.claim->candidate_id};
}

archive::Finish make_finish(const Finals& finals, const Claims& claims, const Winners& winners,
                            const Ranges& ranges) {
  archive::Finish finish;
  for (const auto* claim : winners)
    if (claim) finish.winners.push_back({claim->dims, claim->candidate_id});
  finish.claims = claims;
  finish.aa = finals.evaluator->aa();
  finish.tours = finals.tours;
  if (!finals.ranges.empty()) finish.notes["row_ranges"] = base::Json::array();
  if (!finals.remarks.empty()) finish.notes["remarks"] = finals.remarks;
  for (const RangeClaim& range : ranges)
    finish.notes["row_ranges"].push_back(to_json(range_result(range), *finals.op));
  finish.seconds = finals.evaluator->seconds();
  finish.seconds["wall"] = base::seconds_since(finals.start_ns);
  return finish;
}

SizeResult size_result(const spec::Dims& size, const evaluate::Claim* winner, const Claims& claims,
                       const std::vector<archive::Record>& records) {
  SizeResult result{size, std::nullopt, winner != nullptr, ""};
  if (const auto* shown = winner ? winner : best_attempt(claims, size)) {
    result.claim = *shown;
    result.knobs = candidate_of(records, shown->candidate_id).knobs.text();
  }
  return result;
}

using Finalists = std::vector<std::vector<spec::Candidate>>;  // of each size

Finalists finalists_of(const Finals& finals, const std::vector<spec::Dims>& sizes,
                       const std::vector<archive::Record>& records) {
  auto finalists = choose_finalists(records, sizes.size(), finals.count);
  if (!finals.ranges.empty())
    add_range_finalists(*finals.op, finals.ranges, records, sizes, finals.count, finalists);
  return finalists;
}

// The claims of the log, where they are of these finalists and nothing was tried since.
const Claims* written_claims(const Finals& finals, const std::vector<spec::Dims>& sizes,
                             const Finalists& finalists, size_t tried) {
  const archive::RunData& log = finals.writer->so_far();
  if (!log.finish || log.records.size() != tried) return nullptr;
  std::set<std::pair<std::string, std::string>> claimed, asked;
  for (const auto& claim : log.finish->claims)
    claimed.emplace(claim.dims.json().dump(), claim.candidate_id);
  for (size_t s = 0; s < sizes.size(); ++s)
    for (const auto& candidate : finalists[s])
      asked.emplace(sizes[s].json().dump(), candidate.id());
  return claimed == asked ? &log.finish->claims : nullptr;
}

// What was claimed of each size and range, into the files and the outcome.
void conclude(const Finals& finals, const std::vector<spec::Dims>& sizes, const Claims& claims,
              bool are_written, const std::vector<archive::Record>& records, RunOutcome& outcome) {
  Winners winners = choose_winners(claims, sizes);
  const Ranges ranges = take_ranges(finals, claims, sizes, winners);
  if (!are_written) finals.writer->append(make_finish(finals, claims, winners, ranges));
  finals.writer->write_winners(packs::write_text(make_pack(finals, winners, ranges, records)));
  for (size_t s = 0; s < sizes.size(); ++s)
    outcome.sizes.push_back(size_result(sizes[s], winners[s], claims, records));
  for (const RangeClaim& range : ranges) outcome.ranges.push_back(range_result(range));
  outcome.remarks = finals.remarks;
}

}  // namespace

base::Json to_json(const RangeResult& range, const spec::Op& op) {
  packs::Entry entry;
  packs::set_ranges(entry, range.ranges, op.batch_dim);
  base::Json result = {{"shape", range.dims.json()}, {"candidate_id", range.candidate_id}};
  packs::write_ranges(entry, result);
  return result;
}

RunOutcome finish_run(const Finals& finals, const std::vector<spec::Dims>& sizes,
                      const std::vector<archive::Record>& records) {
  RunOutcome outcome;
  outcome.evaluated = records.size();
  outcome.benchmarked =
      static_cast<uint64_t>(std::count_if(records.begin(), records.end(), [](const auto& r) {
        return r.verdict.status == spec::Status::benchmarked;
      }));
  const Finalists finalists = finalists_of(finals, sizes, records);
  const Claims* written = written_claims(finals, sizes, finalists, records.size());
  Claims claims;
  if (written) {
    claims = *written;
  } else if (!finals.interrupt->raised()) {
    finals.listener->stage("re-measuring " + std::to_string(count_distinct(finalists)) +
                           " finalists against MLX");
    claims = finals.evaluator->claims(finalists);
  }
  outcome.interrupted = finals.interrupt->raised();
  if (!outcome.interrupted) conclude(finals, sizes, claims, written, records, outcome);
  archive::write_report(finals.writer->dir(), archive::read_run(finals.writer->dir()));
  return outcome;
}

}  // namespace mlx_kd::discover
