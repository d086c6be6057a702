// Counts in JSON that somebody else may have written.
#pragma once

#include <cstdint>

#include "mlx_kd/base/json.h"

namespace mlx_kd::spec {

// A whole number from 0 on, which get<uint64_t> does not ask for: of 1e300 it makes anything.
// Json::exception if it is negative, has a fraction or an exponent, or is another kind of value.
uint64_t count_of(const base::Json& value);

}  // namespace mlx_kd::spec
