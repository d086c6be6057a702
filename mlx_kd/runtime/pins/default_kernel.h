// The kernel of an operator that no pin serves: where MLX has no form of it, or the setting
// `default_kernels` names the op.
#pragma once

#include <memory>

#include "mlx_kd/runtime/pins/pin.h"

namespace mlx_kd::runtime {

// The default setting of the op's first variant in a language of a device of the call's place, at
// the call's size. Throws std::invalid_argument where the op cannot have that size, and
// std::runtime_error, naming op and device, where no device of this machine runs it.
std::shared_ptr<const Served> serve_default(const Query& query);

// The same without waiting for another thread that compiles it: nullptr meanwhile.
std::shared_ptr<const Served> serve_default_if_ready(const Query& query);

// What serve_default() would say of a call without compiling: the kernel that it would take first,
// or nullptr and why none can run.
std::shared_ptr<Kernel> default_kernel_of(const Query& query, std::string& why_not);

}  // namespace mlx_kd::runtime
