// What earlier runs say before the first evaluation.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "mlx_kd/discover/candidate_space.h"
#include "mlx_kd/search/strategy.h"

namespace mlx_kd::discover {

// Hands the strategy what `runs` (run directories of the op; other sizes, types or devices are
// welcome) observed, as points of this space; settings that are not in it are passed over. Returns
// a line a run for people. Misuse (room discover), naming the run, if it is of another op or none
// of its candidates is a point here.
std::vector<std::string> warm_start(search::Strategy& strategy, const CandidateSpace& space,
                                    const search::Points& points, const std::string& op_name,
                                    const std::vector<std::filesystem::path>& runs);

}  // namespace mlx_kd::discover
