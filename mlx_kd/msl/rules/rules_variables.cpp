#include <map>

#include "mlx_kd/msl/parse/constants.h"
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
    if (!one.initialised && !one.is_member && one.space == Space::constant)
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

// "float a[N];" where a function constant decides N. At i is the bracket.
bool declares_array(const Unit& unit, uint32_t i, uint32_t first) {
  if (i < first + 2 || !is_word(unit.tokens[i - 1])) return false;
  const Token& type = unit.tokens[i - 2];
  if (is_any(type, {"return", "else", "case", "in"})) return false;
  return is_word(type) || type.is(">");
}

void check_bounds(const Unit& unit, const Function& function,
                  const std::set<std::string_view>& names, std::vector<Diagnostic>& found) {
  const Range body = function.body;
  for (uint32_t i = body.first; i < body.last; ++i) {
    if (!unit.tokens[i].is("[") || !declares_array(unit, i, body.first)) continue;
    for (uint32_t k = i + 1; k < unit.partner[i]; ++k)
      if (names.count(unit.tokens[k].text))
        return found.push_back(
            {unit.tokens[k].at,
             "the size of '" + std::string(unit.tokens[i - 1].text) +
                 "' depends on a function constant, which is not a constant expression",
             "5.8.1"});
  }
}

}  // namespace

void check_variables(const Unit& unit, std::vector<Diagnostic>& found) {
  std::map<int, std::string> constants;
  for (const Global& one : unit.globals) check_global(one, constants, found);
  const std::set<std::string_view> names = names_by_constants(unit);
  for (const Function& one : unit.functions)
    if (!names.empty() && one.definition) check_bounds(unit, one, names, found);
  for (const GroupVariable& one : group_variables(unit)) {
    const Function& function = unit.functions[one.function];
    if (!function.kernel)
      found.push_back({one.at,
                       "threadgroup variable '" + one.name + "' is in '" + function.name +
                           "', which is not a kernel: pass a pointer",
                       "4.4"});
    if (one.initialised && one.bounds.empty())
      found.push_back(
          {one.at, "threadgroup variable '" + one.name + "' cannot be initialised", "4.4"});
  }
}

}  // namespace mlx_kd::msl
