// Words of a Metal source that nothing here depends on.
#pragma once

#include "mlx_kd/msl/text/lexer.h"

namespace mlx_kd::msl {

// Without coherent(system), __extension__, and volatile of what is not a number: C++ copies no
// volatile class.
Tokens without_memory_words(const Tokens& tokens);

}  // namespace mlx_kd::msl
