#include <algorithm>
#include <map>
#include <optional>

#include "mlx_kd/msl/parse/calls.h"
#include "mlx_kd/msl/parse/declarator.h"
#include "mlx_kd/msl/parse/statements.h"
#include "mlx_kd/msl/rules/rules.h"

namespace mlx_kd::msl {
namespace {

// The pointers of one function by name. A name with two meanings has none.
class Pointers {
 public:
  void add(const std::string& name, Space space) {
    const auto [place, fresh] = spaces_.emplace(name, space);
    if (!fresh && place->second != space) place->second = Space::none;
  }
  Space of(const Token& name) const {
    const auto found = spaces_.find(std::string(name.text));
    return found == spaces_.end() ? Space::none : found->second;
  }

 private:
  std::map<std::string, Space> spaces_;
};

class SpaceCheck {
 public:
  SpaceCheck(const Unit& unit, std::vector<Diagnostic>& found) : unit_(unit), found_(found) {
    for (const Function& one : unit.functions) named_[one.name].push_back(&one);
    for (const GroupVariable& one : group_variables(unit))
      if (!one.bounds.empty()) arrays_.emplace(one.function, one.name);
  }

  void run() {
    for (uint32_t f = 0; f < unit_.functions.size(); ++f) {
      check_parameters(unit_.functions[f]);
      if (unit_.functions[f].definition) check_body(f);
    }
  }

 private:
  const Token& token(uint32_t i) const { return unit_.tokens[i]; }

  void report(uint32_t i, Space from, Space to) {
    found_.push_back({token(i).at,
                      "'" + std::string(token(i).text) + "' points into " + name_of(from) +
                          " memory and is used as a pointer into " + name_of(to) + " memory",
                      "4"});
  }

  void check_parameters(const Function& function) {
    if (function.kernel || function.member) return;
    for (const Parameter& one : function.parameters)
      if ((one.pointer || one.reference) && one.space == Space::none && !has_array(one))
        found_.push_back({one.at,
                          "'" + one.name +
                              "' needs an address space: device, constant, "
                              "thread or threadgroup",
                          "4"});
  }

  bool has_array(const Parameter& one) const {
    for (uint32_t i = one.tokens.first; i < one.tokens.last; ++i)
      if (token(i).is("[") || token(i).is("&&")) return true;
    return false;
  }

  void check_body(uint32_t f) {
    const Function& function = unit_.functions[f];
    Pointers pointers;
    for (const Parameter& one : function.parameters)
      if (one.pointer) pointers.add(one.name, one.space);
    const auto [first, last] = arrays_.equal_range(f);
    for (auto one = first; one != last; ++one) pointers.add(one->second, Space::threadgroup);
    for (uint32_t i = function.body.first; i < function.body.last; ++i)
      declare(i, function, pointers);
    for (uint32_t i = function.body.first; i < function.body.last; ++i) {
      if (token(i).kind != Kind::word) continue;
      if (space_named(token(i).text) != Space::none)
        check_pointer(i, function.body.last, pointers);
      else if (declares_plain_pointer(i, function.body))
        check_source(i + 4, function.body.last, Space::thread, pointers);
      else
        check_call(i, function.body.last, pointers);
    }
  }

  // "T* p = x;" without an address space, which is a pointer into thread memory.
  bool declares_plain_pointer(uint32_t i, Range body) const {
    if (i + 5 >= body.last || i <= body.first || !token(i + 1).is("*")) return false;
    const Token& before = token(i - 1);
    if (!is_any(before, {";", "{", "}", "const"}) || is_any(token(i), {"auto", "return"}))
      return false;
    if (before.is("const") && space_named(token(i - 2).text) != Space::none) return false;
    return is_word(token(i + 2)) && token(i + 3).is("=");
  }

  // At i is an address space: the star behind its type, if a pointer type follows.
  std::optional<uint32_t> star_behind(uint32_t i, uint32_t end) const {
    for (uint32_t k = i + 1; k < end && k < i + 30; ++k) {
      if (token(k).is("*")) return k;
      if (token(k).is("<")) {
        const uint32_t after = unit_.behind_angles(k, end);
        if (after == k) return std::nullopt;
        k = after - 1;
      } else if (token(k).kind != Kind::word && !token(k).is("::")) {
        return std::nullopt;
      }
    }
    return std::nullopt;
  }

  void declare(uint32_t i, const Function& function, Pointers& pointers) const {
    const Space space = space_named(token(i).text);
    if (token(i).kind != Kind::word || space == Space::none) return;
    const auto star = star_behind(i, function.body.last);
    if (!star) return;
    uint32_t k = *star + 1;
    while (token(k).is("const") || token(k).is("*")) ++k;
    if (token(k).kind == Kind::word && k == *star + 1)
      pointers.add(std::string(token(k).text), space);
  }

  // What the pointer expression at i points into: p, p + n, n + p, (p), &p[n], &p->x, a cast, a
  // choice between such.
  Space source_at(uint32_t i, uint32_t end, const Pointers& pointers, int depth = 0) const {
    if (i + 1 >= end || depth > 8) return Space::none;
    if (const uint32_t question = choice_at(i, end))
      return source_at(question + 1, end, pointers, depth + 1);
    if (token(i).is("&")) return referred_at(i + 1, end, pointers);
    if (token(i).is("(")) return bracket_at(i, end, pointers, depth);
    Space found = Space::none;
    for (uint32_t k = i; k + 1 < end; k += 2) {
      const Token& next = token(k + 1);
      const bool last = is_any(next, {";", ",", ")", ":", "}"});
      if (!last && !is_any(next, {"+", "-"})) return Space::none;
      if (is_word(token(k)) && pointers.of(token(k)) != Space::none) found = pointers.of(token(k));
      if (last) return found;
    }
    return Space::none;
  }

  // The "?" of the expression at i; 0 if there is none.
  uint32_t choice_at(uint32_t i, uint32_t end) const {
    for (uint32_t seen = 0; i < end && seen < 60; ++seen) {
      if (token(i).is("?")) return i;
      if (is_any(token(i), {";", ",", ")", "]", "}", ":", "="})) return 0;
      i = unit_.partner[i] > i ? unit_.partner[i] + 1 : i + 1;
    }
    return 0;
  }

  // Behind "&": p[n], p->x.
  Space referred_at(uint32_t i, uint32_t end, const Pointers& pointers) const {
    const bool element = i + 1 < end && is_any(token(i + 1), {"[", "->"});
    return element ? pointers.of(token(i)) : Space::none;
  }

  // "(p + n)", "(device T*)x": a cast says itself what it gives.
  Space bracket_at(uint32_t i, uint32_t end, const Pointers& pointers, int depth) const {
    for (uint32_t k = i + 1; k < unit_.partner[i]; ++k)
      if (const Space named = space_named(token(k).text); named != Space::none)
        return token(unit_.partner[i] - 1).is("*") ? named : Space::none;
    const uint32_t behind = unit_.partner[i] + 1;
    if (behind >= end || !is_any(token(behind), {";", ",", ")", ":", "+", "-"})) return Space::none;
    return source_at(i + 1, unit_.partner[i] + 1, pointers, depth + 1);
  }

  // The first name of the expression at i.
  uint32_t named_at(uint32_t i) const {
    while (is_any(token(i), {"&", "("})) ++i;
    return i;
  }

  void check_source(uint32_t i, uint32_t end, Space wanted, const Pointers& pointers) {
    const Space from = source_at(i, end, pointers);
    if (from != Space::none && from != wanted) report(named_at(i), from, wanted);
  }

  // A declaration "device float* p = x" or a cast "(device float*)x", "..._cast<device float*>(x)".
  void check_pointer(uint32_t i, uint32_t end, const Pointers& pointers) {
    const auto star = star_behind(i, end);
    if (!star) return;
    uint32_t k = *star + 1;
    while (k < end && token(k).is("const")) ++k;
    if (k + 1 >= end) return;
    const Space space = space_named(token(i).text);
    if (token(k).is(")")) check_source(k + 1, end, space, pointers);
    if (token(k).is(">") && token(k + 1).is("(")) check_source(k + 2, end, space, pointers);
    if (token(k).kind == Kind::word && token(k + 1).is("="))
      check_source(k + 2, end, space, pointers);
  }

  void check_call(uint32_t i, uint32_t end, const Pointers& pointers) {
    const auto callees = named_.find(token(i).text);
    if (callees == named_.end()) return;
    const uint32_t bracket = call_bracket(unit_, i, end);
    if (bracket == 0) return;
    const std::vector<Range> given = split_list(unit_, {bracket + 1, unit_.partner[bracket]});
    for (size_t n = 0; n < given.size(); ++n) {
      const Space from = source_at(given[n].first, end, pointers);
      if (from == Space::none) continue;
      const Space other = refused_by_all(callees->second, given.size(), n, from);
      if (other != Space::none) report(named_at(given[n].first), from, other);
    }
  }

  // The space that a parameter wants, if no overload takes `from` there.
  Space refused_by_all(const std::vector<const Function*>& overloads, size_t count, size_t n,
                       Space from) const {
    Space wanted = Space::none;
    for (const Function* one : overloads) {
      if (one->parameters.size() < count) continue;
      const Parameter& parameter = one->parameters[n];
      if (!parameter.pointer || parameter.space == Space::none || parameter.space == from)
        return Space::none;
      wanted = parameter.space;
    }
    return wanted;
  }

  const Unit& unit_;
  std::vector<Diagnostic>& found_;
  std::map<std::string_view, std::vector<const Function*>> named_;
  std::multimap<uint32_t, std::string> arrays_;
};

}  // namespace

void check_spaces(const Unit& unit, std::vector<Diagnostic>& found) {
  SpaceCheck(unit, found).run();
}

}  // namespace mlx_kd::msl
