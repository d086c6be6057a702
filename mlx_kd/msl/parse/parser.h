// Tokens -> declarations. Expressions and statements are left to the compiler behind us.
#pragma once

#include <memory>

#include "mlx_kd/msl/parse/unit.h"
#include "mlx_kd/msl/text/preprocess.h"

namespace mlx_kd::msl {

// Reads, preprocesses and parses `text`, called `name` in messages and for the lookup of includes.
// Misuse, with the place, for brackets that do not match, attributes that Metal does not know and
// instantiations of what is not a template. Further rules are checked by check_rules.
Unit parse(const std::string& name, const std::string& text, const PreprocessOptions& options);

}  // namespace mlx_kd::msl
