// What may be varied in a user's kernel, and how a call of it is launched.
#pragma once

#include "mlx_kd/kernels/user_kernel.h"

namespace mlx_kd::kernels::user {

spec::Space space_of(const UserKernel& kernel);
std::function<spec::Launch(const spec::Dims&, const spec::Setting&)> launch_of(
    const UserKernel& kernel);

}  // namespace mlx_kd::kernels::user
