// Explicit instantiations that leave their template arguments to be deduced.
#pragma once

#include "mlx_kd/msl/parse/unit.h"

namespace mlx_kd::msl {

// template [[host_name("f")]] kernel void f(device float*): its parameters tell its arguments. `i`:
// where it starts. Leaves `found` as it is if they do not.
void deduce_arguments(const Unit& unit, uint32_t i, Instantiation& found);

}  // namespace mlx_kd::msl
