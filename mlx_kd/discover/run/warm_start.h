// What earlier runs and packs say before the first evaluation.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "mlx_kd/discover/run/candidate_space.h"
#include "mlx_kd/search/strategy/strategy.h"

namespace mlx_kd::discover {

// Hands the strategy what `sources` know, as points of this space: run directories of the op and
// packs that hold winners of it (other sizes, types or devices are welcome); settings that are not
// in the space are passed over. A pack says who won, not by how much: each winner counts as twice
// as fast as a point that it does not name. Returns a line a source for people. Misuse (room
// discover), naming the source, if it is of another op or none of its kernels is a point here.
std::vector<std::string> warm_start(search::Strategy& strategy, const CandidateSpace& space,
                                    const search::Points& points, const std::string& op_name,
                                    const std::vector<std::filesystem::path>& sources);

}  // namespace mlx_kd::discover
