// The kernel of an operator that no pin serves, where MLX has no form of it.
#pragma once

#include <memory>

#include "mlx_kd/runtime/pins/pin.h"

namespace mlx_kd::runtime {

// The default setting of the op's first variant in a language of a device of the call's place, at
// the call's size. Throws std::invalid_argument where the op cannot have that size, and
// std::runtime_error, naming op and device, where no device of this machine runs it.
std::shared_ptr<const Served> serve_default(const Query& query);

}  // namespace mlx_kd::runtime
