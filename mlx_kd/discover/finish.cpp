#include "mlx_kd/discover/finish.h"

#include <algorithm>
#include <set>

#include "mlx_kd/archive/report.h"
#include "mlx_kd/archive/run_reader.h"
#include "mlx_kd/base/clock.h"
#include "mlx_kd/discover/choice.h"
#include "mlx_kd/packs/pack.h"

namespace mlx_kd::discover {
namespace {

using Claims = std::vector<evaluate::Claim>;

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

packs::Measured measured(const Finals& finals, const evaluate::Claim& claim) {
  packs::Measured result{claim.dims, claim.metrics, finals.evaluator->protocol_hash(),
                         base::Json::object(),
                         finals.evaluator->protocol().value("proof", base::Json::object())};
  for (const auto& input : finals.op->runtime_inputs)
    result.runtime_inputs[input.name] = input.proved;
  result.proof["bit_exact"] = claim.metrics.bit_exact;
  return result;
}

packs::Pack make_pack(const Finals& finals, const std::vector<const evaluate::Claim*>& winners,
                      const std::vector<archive::Record>& records) {
  packs::Pack pack;
  pack.runtime = finals.evaluator->runtime();
  for (const auto* claim : winners)
    if (claim)
      pack.entries.push_back(packs::make_entry(candidate_of(records, claim->candidate_id),
                                               measured(finals, *claim), finals.device->id(),
                                               pack.runtime.at("mlx_version").get<std::string>()));
  return pack;
}

archive::Finish make_finish(const Finals& finals, const Claims& claims,
                            const std::vector<const evaluate::Claim*>& winners) {
  archive::Finish finish;
  for (const auto* claim : winners)
    if (claim) finish.winners.push_back({claim->dims, claim->candidate_id});
  for (const auto& claim : claims)
    finish.claims.push_back({claim.dims, claim.candidate_id, claim.metrics, claim.claimed,
                             claim.reason, claim.baseline});
  for (const auto& pair : finals.evaluator->aa())
    finish.aa.push_back({pair.dims, pair.ratio, pair.lo, pair.hi, pair.spread});
  finish.tours = finals.tours;
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

void write_results(const Finals& finals, const std::vector<const evaluate::Claim*>& winners,
                   const Claims& claims, const std::vector<archive::Record>& records) {
  finals.writer->append(make_finish(finals, claims, winners));
  finals.writer->write_winners(packs::write_text(make_pack(finals, winners, records)));
}

}  // namespace

RunOutcome finish_run(const Finals& finals, const std::vector<spec::Dims>& sizes,
                      const std::vector<archive::Record>& records) {
  RunOutcome outcome;
  outcome.evaluated = records.size();
  outcome.benchmarked =
      static_cast<uint64_t>(std::count_if(records.begin(), records.end(), [](const auto& r) {
        return r.verdict.status == spec::Status::benchmarked;
      }));
  Claims claims;
  if (!finals.interrupt->raised()) {
    const auto finalists = choose_finalists(records, sizes.size(), finals.count);
    finals.listener->stage("re-measuring " + std::to_string(count_distinct(finalists)) +
                           " finalists against MLX");
    claims = finals.evaluator->claims(finalists);
  }
  outcome.interrupted = finals.interrupt->raised();
  if (!outcome.interrupted) {
    const auto winners = choose_winners(claims, sizes);
    write_results(finals, winners, claims, records);
    for (size_t s = 0; s < sizes.size(); ++s)
      outcome.sizes.push_back(size_result(sizes[s], winners[s], claims, records));
  }
  archive::write_report(finals.writer->dir(), archive::read_run(finals.writer->dir()));
  return outcome;
}

}  // namespace mlx_kd::discover
