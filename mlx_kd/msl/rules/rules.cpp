#include "mlx_kd/msl/rules/rules.h"

#include <algorithm>
#include <map>

#include "mlx_kd/msl/parse/attributes.h"
#include "mlx_kd/msl/parse/calls.h"

namespace mlx_kd::msl {
namespace {

struct Banned {
  std::string why;
  std::string section;
};

const std::map<std::string_view, Banned>& banned_words() {
  static const std::map<std::string_view, Banned> words = {
      {"double", {"Metal has no double: use float", "2.1"}},
      {"wchar_t", {"Metal has no wchar_t", "2.1"}},
      {"goto", {"Metal has no goto", "1.5.4"}},
      {"register", {"Metal has no register", "1.5.4"}},
      {"thread_local", {"Metal has no thread_local", "1.5.4"}},
      {"virtual", {"Metal has no virtual functions", "1.5.4"}},
      {"dynamic_cast", {"Metal has no dynamic_cast", "1.5.4"}},
      {"typeid", {"Metal has no typeid", "1.5.4"}},
      {"new", {"Metal has no new: use an array of fixed size", "1.5.4"}},
      {"delete", {"Metal has no delete", "1.5.4"}},
      {"try", {"Metal has no exceptions", "1.5.4"}},
      {"catch", {"Metal has no exceptions", "1.5.4"}},
      {"throw", {"Metal has no exceptions", "1.5.4"}},
      {"asm", {"Metal has no inline assembly", "1.5.4"}},
      {"__asm__", {"Metal has no inline assembly", "1.5.4"}},
      {"__asm", {"Metal has no inline assembly", "1.5.4"}},
      {"std", {"Metal has no C++ standard library: use namespace metal", "1.5.4"}},
  };
  return words;
}

// "uint3" -> 3, "ushort" -> 1; 0 if it is not a type that a thread's place can have.
int place_width(const std::string& type) {
  static const std::map<std::string, int> types = {
      {"uint", 1},     {"ushort", 1},   {"unsigned", 1},      {"unsigned int", 1},
      {"uint32_t", 1}, {"uint2", 2},    {"ushort2", 2},       {"uint3", 3},
      {"ushort3", 3},  {"uint16_t", 1}, {"unsigned short", 1}};
  const auto one = types.find(type.compare(0, 7, "metal::") == 0 ? type.substr(7) : type);
  return one == types.end() ? 0 : one->second;
}

void check_place(const Unit& unit, const Parameter& one, const ThreadAttribute& place,
                 std::vector<Diagnostic>& found) {
  const int width = place_width(unit.alias_of(one.type));
  if (width == 0 || one.pointer || one.reference)
    found.push_back({one.at,
                     "[[" + place.name + "]] must be uint or ushort" +
                         (place.vector ? ", alone or a vector of 2 or 3" : "") + ", not " +
                         one.type,
                     "5.2.3.6"});
  else if (width > 1 && !place.vector)
    found.push_back({one.at, "[[" + place.name + "]] is a single number: make it uint", "5.2.3.6"});
}

void check_buffer(const Parameter& one, std::map<int, std::string>& taken, int most,
                  std::vector<Diagnostic>& found, const Attribute& attribute) {
  char* end = nullptr;
  const long index = std::strtol(attribute.argument.c_str(), &end, 10);
  if (attribute.argument.empty() || *end)
    return found.push_back({attribute.at, "[[" + attribute.name + "(n)]] needs a number", "5.2.1"});
  if (index < 0 || index > most)
    return found.push_back({attribute.at,
                            "[[" + attribute.name + "(" + attribute.argument +
                                ")]]: the largest index is " + std::to_string(most),
                            "5.2.1"});
  const auto [place, fresh] = taken.emplace(static_cast<int>(index), one.name);
  if (!fresh)
    found.push_back({attribute.at,
                     "'" + place->second + "' has [[" + attribute.name + "(" + attribute.argument +
                         ")]] already: give '" + one.name + "' another",
                     "5.2.1"});
}

void check_parameter(const Unit& unit, const Parameter& one, std::map<int, std::string>& buffers,
                     std::map<int, std::string>& groups, std::vector<Diagnostic>& found) {
  bool placed = false;
  for (const Attribute& attribute : one.attributes) {
    const ThreadAttribute* place = find_thread_attribute(attribute.name);
    placed = placed || place;
    if (place) check_place(unit, one, *place, found);
    if (attribute.name == "buffer") check_buffer(one, buffers, 30, found, attribute);
    if (attribute.name == "threadgroup") check_buffer(one, groups, 30, found, attribute);
  }
  if (placed) return;
  if (one.pointer || one.reference) {
    if (one.space == Space::none || one.space == Space::thread)
      found.push_back(
          {one.at, "'" + one.name + "' must point into device, constant or threadgroup", "4"});
    if (one.attribute("threadgroup") && one.space != Space::threadgroup)
      found.push_back({one.at, "[[threadgroup(n)]] is for threadgroup pointers", "5.2.1"});
    if (one.attribute("buffer") && one.space == Space::threadgroup)
      found.push_back({one.at, "a threadgroup pointer takes [[threadgroup(n)]]", "5.2.1"});
  } else
    found.push_back({one.at,
                     "the parameter '" + one.name +
                         "' of a kernel needs an attribute or must be a pointer or reference",
                     "5.2"});
}

// Positions and sizes in the grid are vectors of one width.
void check_widths(const Function& kernel, std::vector<Diagnostic>& found) {
  const Parameter* first = nullptr;
  for (const Parameter& one : kernel.parameters)
    for (const Attribute& attribute : one.attributes) {
      if (attribute.name != "thread_position_in_grid" && attribute.name != "threads_per_grid")
        continue;
      if (!first) first = &one;
      if (place_width(one.type) != place_width(first->type))
        found.push_back(
            {one.at,
             "'" + one.name + "' and '" + first->name + "' must have the same number of components",
             "5.2.3.6"});
    }
}

bool starts_number(const std::string& value) {
  return !value.empty() && (value[0] == '-' || (value[0] >= '0' && value[0] <= '9'));
}

// template [[host_name("a")]] kernel decltype(k<float, 4>) k<float, 4>: does it fit k's parameters?
void check_instantiation(const Instantiation& one, const Function* function,
                         std::vector<Diagnostic>& found) {
  if (!function || function->templates.empty())
    return found.push_back(
        {one.at, "'" + one.function + "' is not a template of a kernel", "5.1.11"});
  const auto& wanted = function->templates;
  size_t needed = 0;
  for (const TemplateParameter& each : wanted) needed += !each.has_default;
  if (one.values.size() > wanted.size() || one.values.size() < needed)
    return found.push_back({one.at,
                            "'" + one.function + "' takes " + std::to_string(wanted.size()) +
                                " template arguments and is given " +
                                std::to_string(one.values.size()),
                            "5.1.11"});
  for (size_t i = 0; i < one.values.size(); ++i) {
    const bool type = wanted[i].kind == "typename";
    const std::string& value = one.values[i];
    if (type ? starts_number(value) : is_value_type(value))
      found.push_back({one.at,
                       "template argument " + std::to_string(i + 1) + " of '" + one.function +
                           "' is " + value + ": it must be " +
                           (type ? "a type" : "a value of type " + wanted[i].kind),
                       "5.1.11"});
  }
}

}  // namespace

std::vector<Diagnostic> check_rules(const Unit& unit) {
  std::vector<Diagnostic> found;
  check_words(unit, found);
  check_kernels(unit, found);
  check_variables(unit, found);
  check_spaces(unit, found);
  if (const uint32_t call = CallGraph(unit).recursive_call())
    found.push_back(
        {unit.tokens[call].at,
         "'" + std::string(unit.tokens[call].text) + "' calls itself: Metal has no recursion",
         "1.5.4"});
  std::stable_sort(found.begin(), found.end(), [](const Diagnostic& a, const Diagnostic& b) {
    return std::tie(a.at.file, a.at.line, a.at.column) <
           std::tie(b.at.file, b.at.line, b.at.column);
  });
  return found;
}

void require_rules(const Unit& unit) {
  const std::vector<Diagnostic> found = check_rules(unit);
  if (!found.empty()) refuse(*unit.sources, found[0].at, found[0].message, found[0].section);
}

namespace {

// "= delete" of a function; a name that is std and not its namespace.
bool is_something_else(const Unit& unit, uint32_t i) {
  const Token& token = unit.tokens[i];
  if (token.is("delete")) return i > 0 && unit.tokens[i - 1].is("=") && unit.tokens[i + 1].is(";");
  if (!token.is("std")) return false;
  const bool scope = i + 1 < unit.tokens.size() && unit.tokens[i + 1].is("::");
  return !scope && !(i > 0 && unit.tokens[i - 1].is("namespace"));
}

std::string why(const Unit& unit, uint32_t i, const Banned& banned) {
  const bool label = i + 2 < unit.tokens.size() && unit.tokens[i + 1].is("(") &&
                     unit.tokens[i + 2].text.find("\"air.") == 0;
  if (!label) return banned.why;
  return unit.tokens[i + 2].text.find("simdgroup_") != std::string_view::npos
             ? "asynchronous copies are not supported"
             : "functions of Apple's compiler by their label are not supported";
}

}  // namespace

void check_words(const Unit& unit, std::vector<Diagnostic>& found) {
  for (uint32_t i = 0; i < unit.tokens.size(); ++i) {
    const Token& token = unit.tokens[i];
    if (token.kind != Kind::word) continue;
    const auto banned = banned_words().find(token.text);
    if (banned != banned_words().end() && !unit.fields.count(std::string(token.text)) &&
        !is_something_else(unit, i))
      found.push_back({token.at, why(unit, i, banned->second), banned->second.section});
    if (token.is("raytracing") && i + 1 < unit.tokens.size() && unit.tokens[i + 1].is("::"))
      found.push_back({token.at, "ray tracing is not supported", "2.17"});
    const bool next_long = i + 1 < unit.tokens.size() && unit.tokens[i + 1].is("long");
    if (token.is("long") && next_long)
      found.push_back({token.at, "Metal has no long long: long has 64 bits", "2.1"});
  }
}

void check_kernels(const Unit& unit, std::vector<Diagnostic>& found) {
  std::map<std::string, Position> names;
  for (const Function& function : unit.functions) {
    if (!function.kernel || !function.definition) continue;
    if (function.result != "void")
      found.push_back({function.at, "kernel '" + function.name + "' must return void", "5.1.3"});
    if (function.member)
      found.push_back({function.at, "kernel '" + function.name + "' cannot be a member", "5.1.3"});
    if (function.name == "main")
      found.push_back({function.at, "no Metal function can be called main", "1.5.4"});
    std::map<int, std::string> buffers, groups;
    for (const Parameter& one : function.parameters)
      check_parameter(unit, one, buffers, groups, found);
    check_widths(function, found);
    if (function.templates.empty() &&
        !names.emplace(function.scope + function.host_name, function.at).second)
      found.push_back(
          {function.at, "kernel '" + function.name + "' cannot be overloaded", "1.5.1"});
  }
  for (const Instantiation& one : unit.instantiations) {
    check_instantiation(one, unit.definition_of(one.function), found);
    if (!names.emplace(one.host_name, one.at).second)
      found.push_back({one.at, "the host name '" + one.host_name + "' is taken", "5.1.10"});
  }
}

}  // namespace mlx_kd::msl
