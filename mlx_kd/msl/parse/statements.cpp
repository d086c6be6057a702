#include "mlx_kd/msl/parse/statements.h"

#include "mlx_kd/msl/parse/declarator.h"

namespace mlx_kd::msl {
namespace {

// No declaration is longer, in tokens.
constexpr uint32_t kLongest = 2000;

// Where the statement starts that holds the token i; 0 if i is within an expression.
uint32_t statement_start(const Unit& unit, uint32_t i, uint32_t first) {
  const uint32_t limit = i - first > 20 ? i - 20 : first;
  while (i > limit) {
    const Token& before = unit.tokens[i - 1];
    if (before.is(";") || before.is("{") || before.is("}") || before.kind == Kind::pragma) break;
    if (before.is("(") || before.is(",") || before.is("<")) return 0;  // a parameter or a cast
    i = unit.partner[i - 1] < i - 1 ? unit.partner[i - 1] : i - 1;
  }
  return i;
}

// The index behind the semicolon; 0 if there is none.
uint32_t statement_end(const Unit& unit, uint32_t i, uint32_t last) {
  for (uint32_t seen = 0; i < last && seen < kLongest; ++seen) {
    if (unit.tokens[i].is(";")) return i + 1;
    i = unit.partner[i] > i ? unit.partner[i] + 1 : i + 1;
  }
  return 0;
}

bool is_star(const Token& token) {
  return token.is("*") || token.is("&") || token.is("&&");
}

// Reads one declarator; false if it declares a pointer.
bool read_declarator(const Unit& unit, Range part, GroupVariable& one) {
  uint32_t k = part.first;
  for (; k < part.last && !unit.tokens[k].is("[") && !unit.tokens[k].is("="); ++k) {
    if (is_star(unit.tokens[k])) return false;
    if (unit.tokens[k].is("<")) k = std::max(unit.behind_angles(k, part.last), k + 1) - 1;
    if (unit.tokens[k].is("(")) k = unit.partner[k];
  }
  if (k == part.first || unit.tokens[k - 1].kind != Kind::word) return false;
  one.name = std::string(unit.tokens[k - 1].text);
  one.at = unit.tokens[k - 1].at;
  one.type = {part.first, k - 1};
  one.bounds = {k, k};
  for (; k < part.last && unit.tokens[k].is("["); k = unit.partner[k] + 1)
    one.bounds.last = unit.partner[k] + 1;
  one.initialised = k < part.last;
  if (one.initialised) one.value = {k, part.last};
  return true;
}

void read_statement(const Unit& unit, GroupVariable base, std::vector<GroupVariable>& found) {
  Range type;
  for (const Range& part : split_list(unit, {base.statement.first, base.statement.last - 1})) {
    GroupVariable one = base;
    if (!read_declarator(unit, part, one)) return;
    if (type.empty()) type = one.type;
    if (type.empty()) return;
    one.type = type;
    found.push_back(one);
  }
}

}  // namespace

std::vector<GroupVariable> group_variables(const Unit& unit) {
  std::vector<GroupVariable> found;
  for (uint32_t f = 0; f < unit.functions.size(); ++f) {
    const Range body = unit.functions[f].body;
    int depth = 0;
    for (uint32_t i = body.first; i < body.last; ++i) {
      depth += unit.tokens[i].is("{") - unit.tokens[i].is("}");
      if (!unit.tokens[i].is("threadgroup")) continue;
      const uint32_t start = statement_start(unit, i, body.first);
      const uint32_t end = statement_end(unit, i, body.last);
      if (start == 0 || end == 0) continue;
      GroupVariable one;
      one.statement = {start, end};
      one.function = f;
      one.word = i;
      one.outermost = depth == 1;
      read_statement(unit, one, found);
      i = end - 1;
    }
  }
  return found;
}

}  // namespace mlx_kd::msl
