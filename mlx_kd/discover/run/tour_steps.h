// The tours of a search, as far as they were walked.
#pragma once

#include <cstdint>
#include <vector>

#include "mlx_kd/discover/run/search_loop.h"

namespace mlx_kd::discover {

// A list a short tour: the steps of the visits in the order in which the tour passes their points.
// Empty where the strategy has no tours.
std::vector<std::vector<uint64_t>> tour_steps(search::Strategy& strategy,
                                              const std::vector<Visit>& visits);

}  // namespace mlx_kd::discover
