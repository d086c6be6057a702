// Function constants: what the host fixes when a kernel is made.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "mlx_kd/msl/parse/unit.h"

namespace mlx_kd::msl {

// The function constants that `kernel`, or what it calls, reads; not those that the source asks for
// with is_function_constant_defined. In order of place.
std::vector<const Global*> constants_read(const Unit& unit, const Function& kernel);

// Whether the constant `name` is known to be false or 0: a function constant whose value, by index,
// is, or one that is initialised with an expression of such constants and numbers.
bool is_known_false(const Unit& unit, const std::string& name,
                    const std::map<int, std::string>& values);

// The names whose values a function constant decides: its own, and those of globals and members
// that are initialised with one.
std::set<std::string_view> names_by_constants(const Unit& unit);

}  // namespace mlx_kd::msl
