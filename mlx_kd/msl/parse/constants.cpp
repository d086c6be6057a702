#include "mlx_kd/msl/parse/constants.h"

#include <unordered_map>

#include "mlx_kd/msl/parse/calls.h"

namespace mlx_kd::msl {
namespace {

// Functions, globals, and the names in them that are globals.
class Reads {
 public:
  explicit Reads(const Unit& unit) : unit_(unit), calls_(unit) {
    for (const Global& one : unit.globals) globals_.emplace(one.name, &one);
    for (uint32_t i = 0; i + 2 < unit.tokens.size(); ++i)
      if (unit.tokens[i].is("is_function_constant_defined")) asked_.insert(unit.tokens[i + 2].text);
  }

  void function(uint32_t f) {
    if (!functions_.insert(f).second) return;
    range(unit_.functions[f].body);
    for (const Call& one : calls_.calls_of(f)) function(one.function);
  }

  std::vector<const Global*> constants() const {
    std::vector<const Global*> found;
    for (const Global& one : unit_.globals)
      if (one.function_constant && read_.count(&one) && !asked_.count(one.name))
        found.push_back(&one);
    return found;
  }

 private:
  void range(Range tokens) {
    for (uint32_t i = tokens.first; i < tokens.last; ++i) {
      if (!is_word(unit_.tokens[i])) continue;
      const auto [first, last] = globals_.equal_range(unit_.tokens[i].text);
      for (auto one = first; one != last; ++one)
        if (read_.insert(one->second).second && !one->second->function_constant)
          range(one->second->tokens);
    }
  }

  const Unit& unit_;
  const CallGraph calls_;
  std::unordered_multimap<std::string_view, const Global*> globals_;
  std::set<std::string_view> asked_;
  std::set<uint32_t> functions_;
  std::set<const Global*> read_;
};

}  // namespace

std::vector<const Global*> constants_read(const Unit& unit, const Function& kernel) {
  Reads reads(unit);
  reads.function(static_cast<uint32_t>(&kernel - &unit.functions[0]));
  return reads.constants();
}

std::set<std::string_view> names_by_constants(const Unit& unit) {
  std::set<std::string_view> names;
  for (const Global& one : unit.globals)
    if (one.function_constant) names.insert(one.name);
  if (names.empty()) return names;
  for (const Global& one : unit.globals)
    for (uint32_t i = one.name_at + 1; i < one.tokens.last && !one.is_constexpr; ++i)
      if (names.count(unit.tokens[i].text)) names.insert(one.name);
  return names;
}

}  // namespace mlx_kd::msl
