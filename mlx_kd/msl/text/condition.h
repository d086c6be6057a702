// The expressions of #if and #elif.
#pragma once

#include "mlx_kd/msl/text/lexer.h"

namespace mlx_kd::msl {

// The value of an integer constant expression whose macros are expanded; names that are left count
// as 0. Misuse, at `line`, for an expression that is none.
bool condition_holds(const SourceSet& sources, const Tokens& expression, Position line);

}  // namespace mlx_kd::msl
