#include "mlx_kd/msl/parse/constants.h"

#include <cstdlib>
#include <unordered_map>

#include "mlx_kd/base/error.h"
#include "mlx_kd/msl/parse/calls.h"
#include "mlx_kd/msl/text/condition.h"

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

constexpr int kMostSteps = 1000;  // from constant to constant, so that no circle is followed

// An expression of constants, written out as one of numbers.
class WrittenOut {
 public:
  WrittenOut(const Unit& unit, const std::map<int, std::string>& values)
      : unit_(unit), values_(values) {}

  // False where something in it is neither a constant nor a number.
  bool name(std::string_view name) {
    if (++steps_ > kMostSteps) return false;
    for (const Global& one : unit_.globals)
      if (one.name == name) return one.function_constant ? value_of(one) : initialiser_of(one);
    return false;
  }
  const Tokens& tokens() const { return tokens_; }

 private:
  void add(Kind kind, std::string_view text) {
    Token token;
    token.kind = kind;
    token.text = text;
    tokens_.push_back(token);
  }

  bool value_of(const Global& one) {
    const auto given = values_.find(*one.function_constant);
    if (given == values_.end()) return false;
    const std::string& text = given->second;
    if (text == "true" || text == "false") return add(Kind::word, text), true;
    char* end = nullptr;
    std::strtoll(text.c_str(), &end, 0);
    if (text.empty() || *end) return false;
    const bool negative = text[0] == '-';
    if (negative) add(Kind::punctuation, "-");
    return add(Kind::number, std::string_view(text).substr(negative)), true;
  }

  bool initialiser_of(const Global& one) {
    uint32_t i = one.name_at + 1;
    if (one.tokens.last < i + 3 || !unit_.tokens[i].is("=")) return false;
    add(Kind::punctuation, "(");
    for (++i; i + 1 < one.tokens.last; ++i) {
      const Token& token = unit_.tokens[i];
      const bool asked = token.is("is_function_constant_defined") && i + 4 < one.tokens.last;
      if (asked)
        add(Kind::number, is_given(unit_.tokens[i + 2].text) ? "1" : "0"), i += 3;
      else if (!is_word(token) || token.is("true") || token.is("false"))
        tokens_.push_back(token);
      else if (!name(token.text))
        return false;
    }
    add(Kind::punctuation, ")");
    return true;
  }

  bool is_given(std::string_view name) const {
    for (const Global& one : unit_.globals)
      if (one.name == name && one.function_constant) return values_.count(*one.function_constant);
    return false;
  }

  const Unit& unit_;
  const std::map<int, std::string>& values_;
  Tokens tokens_;
  int steps_ = 0;
};

}  // namespace

bool is_known_false(const Unit& unit, const std::string& name,
                    const std::map<int, std::string>& values) {
  WrittenOut expression(unit, values);
  if (!expression.name(name)) return false;
  try {
    return !condition_holds(*unit.sources, expression.tokens(), {});
  } catch (const base::Error&) {  // it has more in it than whole numbers
    return false;
  }
}

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
