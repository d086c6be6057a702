// A device in place of one that is not here: another device proves its kernels; they are not timed.
#pragma once

#include <memory>
#include <string>

#include "mlx_kd/devices/device.h"

namespace mlx_kd::devices::null {

// Compiles, loads and checks what `prove_on` does, with the knobs that it offers. Its kind is
// `kind`; arch and name are "null", so that its pins cannot be taken for real ones. Misuse (room
// devices) for an unknown kind and for one whose kernels `prove_on` does not take.
std::shared_ptr<const Device> stand_in(const std::string& kind, const std::string& prove_on);

}  // namespace mlx_kd::devices::null
