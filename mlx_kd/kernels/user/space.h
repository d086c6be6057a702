// What may be varied in a user's kernel, and how a call of it is launched.
#pragma once

#include "mlx_kd/kernels/user_kernel.h"

namespace mlx_kd::kernels::user {

spec::Space space_of(const UserKernel& kernel);
std::function<spec::Launch(const spec::Dims&, const spec::Setting&)> launch_of(
    const UserKernel& kernel);

// Small sizes of the kernel's own for tests: one, three and odd numbers of the batch dim at the two
// smallest of its sizes.
std::vector<spec::Dims> edge_sizes(const UserKernel& kernel);
// Misuse (room kernels) where a constraint that names sizes does not hold at this one with a
// setting that holds at all sizes of the kernel.
void check_fit(const UserKernel& kernel, const spec::Dims& dims);

}  // namespace mlx_kd::kernels::user
