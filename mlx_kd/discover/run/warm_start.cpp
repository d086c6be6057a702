#include "mlx_kd/discover/run/warm_start.h"

#include <algorithm>
#include <cmath>

#include "mlx_kd/archive/run/run_reader.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/packs/pack.h"

namespace mlx_kd::discover {
namespace {

using Observations = std::vector<search::Observation>;

const double kWinnerValue = -std::log(2.0);  // of those that a pack does not name: 0

Observations observations_of(const archive::RunData& run, const CandidateSpace& space,
                             const search::Points& points) {
  Observations result;
  for (const auto& record : run.records) {
    const size_t point = points.find(space.point(record.candidate));
    if (point >= points.size()) continue;
    const bool benchmarked = record.verdict.status == spec::Status::benchmarked;
    result.push_back({point, !benchmarked, benchmarked ? record.verdict.objective : 0, 1});
  }
  return result;
}

// An entry does not name its variant: it is the one that has the entry's knobs.
size_t point_of(const packs::Entry& entry, const CandidateSpace& space,
                const search::Points& points) {
  spec::Candidate candidate;
  candidate.language = entry.language;
  for (const auto& [name, value] : entry.knobs.items())
    if (value.is_number_integer()) candidate.knobs.set(name, value.get<int64_t>());
  for (const std::string& variant : space.variants()) {
    candidate.variant = variant;
    const spec::Setting setting = space.point(candidate);
    const size_t point = points.find(setting);
    if (point < points.size() &&
        space.candidate(setting).knobs.items().size() == candidate.knobs.items().size())
      return point;
  }
  return points.size();
}

// The winners, and as many points and one more, spread over the space, that did not win.
Observations observations_of(const packs::Pack& pack, const CandidateSpace& space,
                             const search::Points& points, const std::string& op_name) {
  std::vector<size_t> winners;
  for (const packs::Entry& entry : pack.entries)
    if (entry.key.op_name == op_name) winners.push_back(point_of(entry, space, points));
  std::sort(winners.begin(), winners.end());
  winners.erase(std::unique(winners.begin(), winners.end()), winners.end());
  if (!winners.empty() && winners.back() == points.size()) winners.pop_back();
  Observations result;
  for (size_t point : winners) result.push_back({point, false, kWinnerValue, 1});
  const size_t others = winners.empty() ? 0 : winners.size() + 1;
  for (size_t i = 0; i < others; ++i) {
    const size_t point = (2 * i + 1) * points.size() / (2 * others);
    if (!std::binary_search(winners.begin(), winners.end(), point))
      result.push_back({point, false, 0, 1});
  }
  return result;
}

Observations observations_from(const std::filesystem::path& source, const CandidateSpace& space,
                               const search::Points& points, const std::string& op_name) {
  if (!archive::is_run_dir(source))
    return observations_of(packs::read_pack(source), space, points, op_name);
  const archive::RunData run = archive::read_run(source);
  if (run.meta.op_name != op_name)
    base::misuse("discover", source.string() + " is a run of '" + run.meta.op_name + "', not of '" +
                                 op_name + "': name runs of the same op");
  return observations_of(run, space, points);
}

}  // namespace

std::vector<std::string> warm_start(search::Strategy& strategy, const CandidateSpace& space,
                                    const search::Points& points, const std::string& op_name,
                                    const std::vector<std::filesystem::path>& sources) {
  std::vector<std::string> notes;
  for (const auto& source : sources) {
    const Observations observations = observations_from(source, space, points, op_name);
    if (observations.empty())
      base::misuse("discover", source.string() + " knows no kernel of '" + op_name +
                                   "' that this search could try: leave it out");
    strategy.add_prior(observations);
    const auto wins = std::count_if(observations.begin(), observations.end(), [](const auto& seen) {
      return !seen.failed && seen.value < 0;
    });
    notes.push_back(source.string() + ": " +
                    (archive::is_run_dir(source)
                         ? std::to_string(observations.size()) + " kernels guide"
                         : std::to_string(wins) + " pinned kernels guide") +
                    " the first evaluations");
  }
  return notes;
}

}  // namespace mlx_kd::discover
