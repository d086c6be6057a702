// Candidates to prove without a search: `kd verify`, tests, trials.
#pragma once

#include <vector>

#include "mlx_kd/spec/device_id.h"
#include "mlx_kd/spec/op/candidate.h"

namespace mlx_kd::evaluate {

// Every variant in one of `languages` with its default knobs, then up to `random_count` different
// random valid settings of them, in turn. Same seed, same candidates.
std::vector<spec::Candidate> sample_candidates(const spec::Op& op,
                                               const std::vector<std::string>& languages,
                                               const spec::DeviceTraits& traits, spec::Dtype dtype,
                                               const spec::Dims& first_size, int random_count,
                                               uint64_t seed);

}  // namespace mlx_kd::evaluate
