// Who goes to the finals, and who wins them.
#pragma once

#include <vector>

#include "mlx_kd/archive/run/run_data.h"
#include "mlx_kd/evaluate/evaluator.h"
#include "mlx_kd/packs/pack.h"

namespace mlx_kd::discover {

// For each size (their number given) the `count` benchmarked candidates with the least log_ratio
// there, best first, ties by id. Lists are empty where nothing was benchmarked.
std::vector<std::vector<spec::Candidate>> choose_finalists(
    const std::vector<archive::Record>& records, size_t sizes, size_t count);

// For each size the claim that won: of those claimed, the first by spec::rank. nullptr where there
// is none.
std::vector<const evaluate::Claim*> choose_winners(const std::vector<evaluate::Claim>& claims,
                                                   const std::vector<spec::Dims>& sizes);

// The claim nearest to a win of a size that has no winner: the one with the largest speed-up.
// nullptr if none.
const evaluate::Claim* best_attempt(const std::vector<evaluate::Claim>& claims,
                                    const spec::Dims& size);

}  // namespace mlx_kd::discover
