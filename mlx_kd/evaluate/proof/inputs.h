// The inputs of a case, filled in the type that is deployed; the same on every machine.
#pragma once

#include <vector>

#include "mlx_kd/evaluate/proof/proof_plan.h"

namespace mlx_kd::evaluate {

// inputs[i]: writable memory of the i-th input, contiguous. By Op::fill, or from the distribution.
void fill_inputs(const spec::Op& op, spec::Dtype t, const Case& c,
                 const std::vector<void*>& inputs);

}  // namespace mlx_kd::evaluate
