// Calls and pins in words.
#pragma once

#include <string>

#include "mlx_kd/runtime/pins/call_key.h"
#include "mlx_kd/runtime/pins/pin.h"

namespace mlx_kd::runtime {

std::string dtype_of(const Query& query);  // "float16"
std::string shape_of(const Query& query);  // "rows=1,D=2048"
std::string title_of(const Query& query);  // "rmsnorm float16 rows=1,D=2048 on the cpu"
std::string title_of(const Pin& pin);      // "rmsnorm float16 rows=1,D=2048"
std::string differences_text(const Pin& pin, const Query& query);  // differences(), "; " between

}  // namespace mlx_kd::runtime
