// The version of mlx-kd itself.
#pragma once

#include <string>

namespace mlx_kd::base {

std::string version();  // "0.1.0"

}  // namespace mlx_kd::base
