// A candidate in Metal as packs carry it: the body of a metal_kernel for one size, its knobs, the
// size and the model's numbers as constants, launched as zmlx.kd launches.
#pragma once

#include <optional>
#include <vector>

#include "mlx_kd/spec/op/candidate.h"

namespace mlx_kd::kernels {

// `params` as Op::runtime_inputs. The name of the function ends in a hash of the body, because MLX
// compiles again whenever a name comes with another body. launch_params name a launch_kind of
// zmlx.kd with what it reads, or give the grid (launch_kind `grid`, grid_x).
// nullopt where an input has fewer than 8 elements at that size: metal_kernel would pass it in
// another address space than the kernel reads.
std::optional<spec::Candidate> body_form(const spec::Op& op, const spec::Candidate& candidate,
                                         const spec::Dims& dims, const std::vector<double>& params);

// How zmlx.kd launches bodies of that kind, of whatever op; nullptr for other kinds.
const spec::BodyLaunch* body_launch_of(const std::string& kind);

// The launch that launch_params of a body mean at a size, as zmlx.kd computes it.
// `elements`: of the first input. Misuse where a setting is not a number above 0; fails where a
// size is missing.
spec::Launch body_launch(const base::Json& launch_params, const spec::Dims& dims, int64_t elements);

}  // namespace mlx_kd::kernels
