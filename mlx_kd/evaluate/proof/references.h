// Fills the shared memory of a case: inputs, MLX's results, float64 references, error bounds.
#pragma once

#include "mlx_kd/evaluate/proof/proof_plan.h"

namespace mlx_kd::evaluate {

// `memory`: the shared memory, writable. Runs MLX on the calling thread.
void prepare_case(const spec::Op& op, spec::Dtype dtype, const Case& c, const Protocol& protocol,
                  std::byte* memory);

// |y - y64| may be so large: (roundings u + accumulated 2^-24) S + tiny, finite.
float allowed_error(const spec::ErrorBound& bound, spec::Dtype dtype, double scale,
                    const Protocol& protocol);

}  // namespace mlx_kd::evaluate
