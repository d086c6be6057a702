// Fills the shared memory of a case: inputs, MLX's results, float64 references, error bounds.
#pragma once

#include "mlx_kd/evaluate/proof/proof_plan.h"

namespace mlx_kd::evaluate {

// `memory`: the shared memory, writable. Runs MLX on the calling thread: on its default device, or
// on the CPU if MLX has no form of the op there.
void prepare_case(const spec::Op& op, spec::Dtype t, const Case& c, const Protocol& protocol,
                  std::byte* memory);
// The inputs alone.
void prepare_inputs(const spec::Op& op, spec::Dtype t, const Case& c, std::byte* memory);

// |y - y64| may be so large for element k of that type: u rounded + accumulated 2^-24 terms +
// absolute + tiny, finite. Where a magnitude is infinite, either result is open and the bound is
// tiny.
float allowed_error(const spec::Reference64& reference, size_t k, double accumulated,
                    spec::Dtype type, const Protocol& protocol);

}  // namespace mlx_kd::evaluate
