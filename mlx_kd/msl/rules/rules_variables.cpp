#include <map>

#include "mlx_kd/msl/parse/statements.h"
#include "mlx_kd/msl/rules/rules.h"

namespace mlx_kd::msl {
namespace {

void check_global(const Global& one, std::map<int, std::string>& constants,
                  std::vector<Diagnostic>& found) {
  if (one.space != Space::constant && !one.is_constexpr)
    found.push_back(
        {one.at, "'" + one.name + "' lies outside all functions: declare it constant", "4.2"});
  if (!one.function_constant) {
    if (!one.initialised && one.space == Space::constant)
      found.push_back({one.at, "constant '" + one.name + "' needs a value", "4.2"});
    return;
  }
  const int index = *one.function_constant;
  if (index < 0 || index > 65535)
    found.push_back({one.at, "the index of a function constant goes from 0 to 65535", "5.8.1"});
  if (one.initialised)
    found.push_back(
        {one.at, "function constant '" + one.name + "' gets its value from the host", "5.8.1"});
  const auto [place, fresh] = constants.emplace(index, one.name);
  if (!fresh)
    found.push_back(
        {one.at,
         "'" + place->second + "' has function constant " + std::to_string(index) + " already",
         "5.8.1"});
}

}  // namespace

void check_variables(const Unit& unit, std::vector<Diagnostic>& found) {
  std::map<int, std::string> constants;
  for (const Global& one : unit.globals) check_global(one, constants, found);
  for (const GroupVariable& one : group_variables(unit)) {
    const Function& function = unit.functions[one.function];
    if (!function.kernel)
      found.push_back({one.at,
                       "threadgroup variable '" + one.name + "' is in '" + function.name +
                           "', which is not a kernel: pass a pointer",
                       "4.4"});
    if (one.initialised)
      found.push_back(
          {one.at, "threadgroup variable '" + one.name + "' cannot be initialised", "4.4"});
  }
}

}  // namespace mlx_kd::msl
