#include "mlx_kd/msl/bodies/kernel_body.h"

#include <algorithm>
#include <charconv>
#include <sstream>

#include "mlx_kd/base/error.h"
#include "mlx_kd/msl/parse/attributes.h"
#include "mlx_kd/msl/prelude.h"

namespace mlx_kd::msl {
namespace {

const Function& kernel_named(const Unit& unit, const std::string& name) {
  for (const Function& one : unit.functions)
    if (one.kernel && one.definition && one.host_name == name) return one;
  base::misuse("msl", unit.sources->name(unit.file) + " has no kernel '" + name + "'");
}

// True for a thread position.
bool check_position(const Unit& unit, const Parameter& one) {
  for (const Attribute& attribute : one.attributes) {
    const ThreadAttribute* known = find_thread_attribute(attribute.name);
    if (!known) continue;
    const std::string type = known->vector ? "uint3" : "uint";
    if (one.name != known->name || one.type != type)
      refuse(*unit.sources, one.at,
             "a body has this position as '" + type + " " + known->name + "': call it so");
    return true;
  }
  return false;
}

// The constants that represent the numbers.
std::string constants_of(const Unit& unit, const Function& kernel,
                         const std::map<std::string, std::string>& numbers,
                         const std::set<std::string>& inputs) {
  std::string text;
  for (const Parameter& one : kernel.parameters) {
    if (check_position(unit, one) || inputs.count(one.name)) continue;
    if (one.pointer && one.space == Space::device) continue;
    const auto value = numbers.find(one.name);
    if (!one.reference || one.space != Space::constant || value == numbers.end())
      refuse(*unit.sources, one.at,
             "'" + one.name + "' cannot be in a body: it takes device arrays and known numbers");
    text += "constexpr " + one.type + " " + one.name + " = " + value->second + ";\n";
  }
  return text;
}

void check_closed(const Unit& unit, const Function& kernel) {
  for (uint32_t i = kernel.body.first; i < kernel.body.last; ++i) {
    const Token& token = unit.tokens[i];
    if (token.kind != Kind::word) continue;
    const auto is_it = [&](const auto& one) { return token.is(one.name); };
    if (std::any_of(unit.functions.begin(), unit.functions.end(), is_it) ||
        std::any_of(unit.globals.begin(), unit.globals.end(), is_it))
      refuse(*unit.sources, token.at,
             "'" + std::string(token.text) + "' is outside the kernel: a body cannot use it");
  }
}

std::string text_of(const Token& token) {
  if (token.kind == Kind::pragma) return "\n#pragma " + std::string(token.text) + "\n";
  return std::string(token.before) + std::string(token.text);
}

// Without the indentation of a function and the blank lines that directives leave.
std::string tidy(const std::string& text) {
  std::istringstream lines(text);
  std::string result, line;
  while (std::getline(lines, line)) {
    line.erase(line.find_last_not_of(" \t") + 1);
    if (line.empty()) continue;
    result += (line.rfind("  ", 0) == 0 ? line.substr(2) : line) + "\n";
  }
  return result;
}

}  // namespace

std::string float_text(double value) {
  char text[40];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  std::string result(text, end);
  if (result.find_first_of(".e") == std::string::npos) result += ".0";
  return result + "f";
}

std::string_view first_version_helpers() {
  return prelude().at("kk_utils.metal");
}

std::string body_of(const Unit& unit, const std::string& kernel,
                    const std::map<std::string, std::string>& numbers, const BodyOptions& options) {
  const Function& function = kernel_named(unit, kernel);
  const std::string constants = constants_of(unit, function, numbers, options.inputs);
  if (!options.helpers) check_closed(unit, function);
  std::string text;
  for (uint32_t i = function.body.first + 1; i + 1 < function.body.last; ++i)
    text += text_of(unit.tokens[i]);
  return constants + tidy(text);
}

std::string helpers_of(const Unit& unit) {
  std::vector<Range> left_out;
  for (const Function& one : unit.functions)
    if (one.kernel) left_out.push_back(one.tokens);
  for (const Instantiation& one : unit.instantiations) left_out.push_back(one.tokens);
  std::string text;
  for (uint32_t i = 0; i < unit.tokens.size(); ++i) {
    const auto holds = [&](const Range& range) { return range.first <= i && i < range.last; };
    if (std::none_of(left_out.begin(), left_out.end(), holds)) text += text_of(unit.tokens[i]);
  }
  return tidy(text);
}

}  // namespace mlx_kd::msl
