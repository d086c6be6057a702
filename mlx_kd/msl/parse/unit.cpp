#include "mlx_kd/msl/parse/unit.h"

#include "mlx_kd/msl/parse/attributes.h"

namespace mlx_kd::msl {

Space space_named(std::string_view word) {
  if (word == "device") return Space::device;
  if (word == "constant") return Space::constant;
  if (word == "thread") return Space::thread;
  if (word == "threadgroup") return Space::threadgroup;
  return Space::none;
}

std::string name_of(Space space) {
  switch (space) {
    case Space::device:
      return "device";
    case Space::constant:
      return "constant";
    case Space::thread:
      return "thread";
    case Space::threadgroup:
      return "threadgroup";
    case Space::none:
      break;
  }
  return "no address space";
}

const Attribute* Parameter::attribute(std::string_view wanted) const {
  for (const Attribute& one : attributes)
    if (one.name == wanted) return &one;
  return nullptr;
}

bool is_place(const Parameter& one) {
  for (const Attribute& attribute : one.attributes)
    if (find_thread_attribute(attribute.name)) return true;
  return false;
}

uint32_t Unit::behind_angles(uint32_t i, uint32_t end) const {
  // No list of template arguments is longer; a "<" that compares must not cost a look at all the
  // rest.
  constexpr uint32_t kLongestType = 2000;
  int depth = 0;
  for (uint32_t k = i; k < end && k - i < kLongestType; ++k) {
    const std::string_view text = tokens[k].text;
    const bool compares = k > i && (tokens[k - 1].is(")") || tokens[k - 1].kind == Kind::number);
    if (text == "<" && compares) continue;  // sizeof(T) < 4
    if (text == "<") ++depth;
    if (text == ">") --depth;
    if (text == ">>") depth -= 2;
    if (depth <= 0) return k + 1;
    if (text == ";" || text == "{" || text == "}") return i;
    if (text == "(" || text == "[") k = partner[k];
  }
  return i;
}

const Function* Unit::definition_of(std::string_view name) const {
  const Function* found = nullptr;
  for (const Function& function : functions) {
    if (!function.definition || function.name != name || function.specialised) continue;
    if (function.kernel) return &function;
    if (!found) found = &function;
  }
  return found;
}

std::string Unit::alias_of(std::string type) const {
  for (int turns = 0; turns < 16; ++turns) {  // aliases of a cycle are none, and never end
    const auto found = aliases.find(type);
    if (found == aliases.end()) break;
    type = found->second;
  }
  return type;
}

}  // namespace mlx_kd::msl
