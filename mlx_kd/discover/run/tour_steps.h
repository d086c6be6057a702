// The tours of a search, as far as they were walked.
#pragma once

#include <cstdint>
#include <vector>

#include "mlx_kd/archive/run/run_data.h"
#include "mlx_kd/discover/run/candidate_space.h"
#include "mlx_kd/search/strategy/strategy.h"

namespace mlx_kd::discover {

// A list a short tour: the steps of the records in the order in which the tour passes their points.
// Empty where the strategy has no tours.
std::vector<std::vector<uint64_t>> tour_steps(search::Strategy& strategy,
                                              const CandidateSpace& space,
                                              const search::Points& points,
                                              const std::vector<archive::Record>& records);

}  // namespace mlx_kd::discover
