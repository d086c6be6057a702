#include "mlx_kd/discover/warm_start.h"

#include "mlx_kd/archive/run_reader.h"
#include "mlx_kd/base/error.h"

namespace mlx_kd::discover {
namespace {

std::vector<search::Observation> observations_of(const archive::RunData& run,
                                                 const CandidateSpace& space,
                                                 const search::Points& points) {
  std::vector<search::Observation> result;
  for (const auto& record : run.records) {
    const size_t point = points.find(space.point(record.candidate));
    if (point >= points.size()) continue;
    const bool benchmarked = record.verdict.status == spec::Status::benchmarked;
    result.push_back({point, !benchmarked, benchmarked ? record.verdict.objective : 0, 1});
  }
  return result;
}

}  // namespace

std::vector<std::string> warm_start(search::Strategy& strategy, const CandidateSpace& space,
                                    const search::Points& points, const std::string& op_name,
                                    const std::vector<std::filesystem::path>& runs) {
  std::vector<std::string> notes;
  for (const auto& dir : runs) {
    const archive::RunData run = archive::read_run(dir);
    if (run.meta.op_name != op_name)
      base::misuse("discover", dir.string() + " is a run of '" + run.meta.op_name + "', not of '" +
                                   op_name + "': name runs of the same op");
    const auto observations = observations_of(run, space, points);
    if (observations.empty())
      base::misuse("discover",
                   dir.string() + " tried nothing that this search could try: leave it out");
    strategy.add_prior(observations);
    notes.push_back(dir.string() + ": " + std::to_string(observations.size()) +
                    " kernels guide the first evaluations");
  }
  return notes;
}

}  // namespace mlx_kd::discover
