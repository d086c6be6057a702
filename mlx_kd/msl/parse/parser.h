// Tokens -> declarations. Expressions and statements are left to the compiler behind us.
#pragma once

#include <memory>

#include "mlx_kd/msl/parse/unit.h"
#include "mlx_kd/msl/text/preprocess.h"

namespace mlx_kd::msl {

// Reads, preprocesses and parses `text`, called `name` in messages and for the lookup of includes.
// Misuse, with the place, for brackets that do not match, attributes that Metal does not know and
// instantiations of what is not a template. Further rules are checked by check_rules.
//
// Attributes of what is not supported ([[texture(0)]]) are refused too, unless they are kept, for a
// caller that cuts out what has them (bodies/one_kernel.h).
enum class Unsupported : uint8_t { refused, kept };
Unit parse(const std::string& name, const std::string& text, const PreprocessOptions& options,
           Unsupported attributes = Unsupported::refused);

}  // namespace mlx_kd::msl
