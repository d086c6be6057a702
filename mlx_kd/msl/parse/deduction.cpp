#include "mlx_kd/msl/parse/deduction.h"

#include <map>

#include "mlx_kd/msl/parse/declarator.h"

namespace mlx_kd::msl {
namespace {

// "Params<N>" and "Params<2>": N is 2.
void deduce_from(const Function& function, const std::string& wanted, const std::string& given,
                 std::map<std::string, std::string>& values) {
  const auto letter = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
  };
  size_t k = 0;
  for (size_t i = 0; i < wanted.size() && k < given.size();) {
    size_t end = i;
    while (end < wanted.size() && letter(wanted[end])) ++end;
    const std::string name = wanted.substr(i, end - i);
    bool found = false;
    for (const TemplateParameter& one : function.templates) found = found || one.name == name;
    if (!found) {  // the same text in both
      const size_t step = std::max<size_t>(end - i, 1);
      if (given.compare(k, step, wanted, i, step) != 0) return;
      i += step, k += step;
      continue;
    }
    const size_t stop = end < wanted.size() ? given.find(wanted[end], k) : given.size();
    if (stop == std::string::npos) return;
    values.emplace(name, given.substr(k, stop - k));
    k = stop, i = end;
  }
}

}  // namespace

void deduce_arguments(const Unit& unit, uint32_t i, Instantiation& found) {
  uint32_t open = i + 1;
  while (open < found.tokens.last && !unit.tokens[open].is("("))
    open = unit.tokens[open].is("[") ? unit.partner[open] + 1 : open + 1;
  if (open >= found.tokens.last || unit.tokens[open - 1].kind != Kind::word) return;
  const Function* function = unit.definition_of(unit.tokens[open - 1].text);
  if (!function || function->templates.empty()) return;
  const auto parts = split_list(unit, {open + 1, unit.partner[open]});
  std::map<std::string, std::string> values;
  for (size_t k = 0; k < parts.size() && k < function->parameters.size(); ++k)
    deduce_from(*function, function->parameters[k].type, read_parameter(unit, parts[k]).type,
                values);
  for (const TemplateParameter& one : function->templates) {
    if (!values.count(one.name)) return;
    found.values.push_back(values[one.name]);
  }
  for (const std::string& one : found.values)
    found.arguments += (found.arguments.empty() ? "<" : ",") + one;
  found.arguments += ">";
  found.function = function->name;
}

}  // namespace mlx_kd::msl
