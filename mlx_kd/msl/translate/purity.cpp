#include "mlx_kd/msl/translate/purity.h"

#include "mlx_kd/msl/parse/attributes.h"
#include "mlx_kd/msl/parse/calls.h"

namespace mlx_kd::msl {
namespace {

using Words = std::set<std::string_view>;

bool is_operand_end(const Token& token) {
  return is_word(token) || token.kind == Kind::number || token.is(")") || token.is("]");
}

}  // namespace

Purity::Purity(const Unit& unit, const Function& function, const std::vector<BodyStatement>& body)
    : unit_(unit), function_(function), body_(body) {
  read_parameters();
  read_locals();
  find_odd_writes();
  mark_passed_by_reference();
  settle();
}

void Purity::read_parameters() {
  for (const TemplateParameter& one : function_.templates) types_.insert(one.name);
  for (const Parameter& one : function_.parameters) {
    Variable variable;
    variable.pointer = one.pointer;
    variable.readable = one.space == Space::constant;
    if (one.reference && !variable.readable) continue;  // others may write what it names
    variables_.emplace(one.name, variable);
    if (!one.reference) parameters_.insert(one.name);
  }
}

void Purity::read_locals() {
  for (const BodyStatement& one : body_) {
    if (one.kind == BodyStatement::Kind::assignment) settled_.insert(one.target);
    for (const Local& local : one.locals) {
      Variable variable;
      variable.pointer = local.pointer;
      variable.pure = local.bounds.empty();
      variables_.emplace(local.name, variable);
      settled_.insert(local.name_at);
    }
    if (one.kind == BodyStatement::Kind::shared) read_shared(one);
  }
}

// Types, constants, and threadgroup variables: arrays as places, for what they hold is not
// constant.
void Purity::read_shared(const BodyStatement& one) {
  if (unit_.tokens[one.tokens.first].is("using")) {
    types_.insert(unit_.tokens[one.tokens.first + 1].text);
    return;
  }
  bool constant = false;
  for (uint32_t i = one.tokens.first; i < one.tokens.last; ++i)
    constant = constant || unit_.tokens[i].is("constexpr");
  for (uint32_t i = one.tokens.first; i + 1 < one.tokens.last; ++i) {
    const Token &name = unit_.tokens[i], &after = unit_.tokens[i + 1];
    if (!is_word(name) || is_value_type(name.text)) continue;
    const bool array = after.is("[");
    if (!array && !after.is("=") && !after.is(";") && !after.is(",") && !after.is("{")) continue;
    variables_.emplace(name.text, Variable{array, false, constant || array});
    settled_.insert(i);
  }
}

// Whether the variable named at i is changed there, in a way that is not an assignment at the top
// level.
bool Purity::changes(uint32_t i) const {
  if (settled_.count(i)) return false;
  const auto found = variables_.find(unit_.tokens[i].text);
  bool through = false;
  uint32_t k = i + 1;
  while (k + 1 < function_.body.last) {
    const Token& token = unit_.tokens[k];
    if (token.is("["))
      k = unit_.partner[k] + 1;
    else if (token.is(".") || token.is("->"))
      k += 2;
    else
      break;
    through = through || !token.is(".");
  }
  const Token& before = unit_.tokens[i - 1];
  const bool address = before.is("&") && !is_operand_end(unit_.tokens[i - 2]);
  const bool steps = before.is("++") || before.is("--");
  if (!is_assigning(unit_.tokens[k]) && !address && !steps) return false;
  return !(through && found->second.pointer);
}

void Purity::find_odd_writes() {
  for (uint32_t i = function_.body.first + 2; i < function_.body.last; ++i) {
    const Token& token = unit_.tokens[i];
    const Token& before = unit_.tokens[i - 1];
    if (!is_word(token) || before.is(".") || before.is("->")) continue;
    Variable* variable = find(token.text);
    if (!variable || !variable->pure) continue;
    if (changes(i)) variable->pure = false;
  }
}

// f(v) of a function of the source may change v if it takes references; so may three of Metal's.
void Purity::mark_passed_by_reference() {
  static const Words changing = {"sincos", "modf", "frexp"};
  Words callees = changing;
  for (const Function& one : unit_.functions)
    for (const Parameter& parameter : one.parameters)
      if (parameter.reference && !parameter.is_const) callees.insert(one.name);
  for (uint32_t i = function_.body.first; i < function_.body.last; ++i) {
    if (!is_word(unit_.tokens[i]) || !callees.count(unit_.tokens[i].text)) continue;
    const uint32_t open = call_bracket(unit_, i, function_.body.last);
    for (uint32_t k = open; open && k < unit_.partner[open]; ++k)
      if (Variable* variable = find(unit_.tokens[k].text)) variable->pure = false;
  }
}

Purity::Variable* Purity::find(std::string_view name) {
  const auto found = variables_.find(name);
  return found == variables_.end() ? nullptr : &found->second;
}

// Takes the purity of variables away until what is left is consistent.
void Purity::settle() {
  for (bool changed = true; changed;) {
    changed = false;
    const auto spoil = [&](std::string_view name) {
      Variable* variable = find(name);
      changed = changed || (variable && variable->pure);
      if (variable) variable->pure = false;
    };
    for (const BodyStatement& one : body_) {
      if (one.kind == BodyStatement::Kind::assignment && !replays(one))
        spoil(unit_.tokens[one.target].text);
      if (one.kind == BodyStatement::Kind::declaration && !replays(one))
        for (const Local& local : one.locals) spoil(local.name);
    }
  }
}

bool Purity::replays(const BodyStatement& one) const {
  if (one.kind == BodyStatement::Kind::assignment)
    return is_pure(std::string(unit_.tokens[one.target].text)) && pure_value(one.value);
  if (one.kind != BodyStatement::Kind::declaration) return false;
  for (const Local& local : one.locals)
    if (!is_pure(local.name) || !pure_value(local.value)) return false;
  return true;
}

// Whether "*" at i reads memory, or may.
bool Purity::dereferences(uint32_t i, Range range) const {
  if (i == range.first || !is_operand_end(unit_.tokens[i - 1])) return true;
  if (i + 1 >= range.last) return false;
  const Token& next = unit_.tokens[i + 1];
  uint32_t last = i + 2;
  if (next.is("(")) last = unit_.partner[i + 1];
  for (uint32_t k = i + 1; k < last && k < range.last; ++k) {
    const auto found = variables_.find(unit_.tokens[k].text);
    if (found != variables_.end() && found->second.pointer) return true;
  }
  return false;
}

// A word of an expression that depends on nothing that changes. `brackets` receives the "[" that
// compute an address, or read a constant.
bool Purity::pure_word(uint32_t i, Range range, std::set<uint32_t>& brackets) const {
  static const Words known = {"true",     "false",    "min",    "max",         "abs",
                              "clamp",    "select",   "metal",  "const",       "device",
                              "constant", "thread",   "sizeof", "threadgroup", "static_cast",
                              "as_type",  "popcount", "clz",    "ctz",         "float"};
  const std::string_view text = unit_.tokens[i].text;
  if (i > range.first && unit_.tokens[i - 1].is(".")) return true;
  if (const auto found = variables_.find(text); found != variables_.end()) {
    const Variable& one = found->second;
    if (!one.pure) return false;
    const bool indexed = i + 1 < range.last && unit_.tokens[i + 1].is("[");
    const bool address = i > range.first && unit_.tokens[i - 1].is("&") &&
                         (i - 1 == range.first || !is_operand_end(unit_.tokens[i - 2]));
    if (indexed && (address || one.readable || !one.pointer)) brackets.insert(i + 1);
    return true;
  }
  for (const Global& one : unit_.globals)
    if (one.name == text) {
      brackets.insert(i + 1);
      return true;
    }
  return known.count(text) || types_.count(text) || is_value_type(text);
}

bool Purity::pure_value(Range range) const {
  static const Words marks = {"+", "-", "*", "/",  "%",  "<<", ">>", "|", "^",  "~",
                              "!", "<", ">", "<=", ">=", "==", "!=", "&", "&&", "||",
                              "?", ":", ",", "(",  ")",  ".",  "::", "]"};
  std::set<uint32_t> brackets;
  for (uint32_t i = range.first; i < range.last; ++i) {
    const Token& token = unit_.tokens[i];
    if (token.kind == Kind::number) continue;
    if (is_word(token)) {
      if (!pure_word(i, range, brackets)) return false;
    } else if (token.is("[")) {
      if (!brackets.count(i)) return false;
    } else if (!marks.count(token.text) || (token.is("*") && dereferences(i, range))) {
      return false;
    }
  }
  return true;
}

bool Purity::is_pure(const std::string& name) const {
  const auto found = variables_.find(name);
  return found != variables_.end() && found->second.pure;
}

bool Purity::parameters_are_pure() const {
  for (const Parameter& one : function_.parameters)
    if (!one.reference && !is_pure(one.name)) return false;
  for (const Parameter& one : function_.parameters)
    if (!is_place(one) && !one.pointer && !one.reference) return false;
  return true;
}

bool Purity::is_value(Range type) const {
  for (uint32_t i = type.first; i < type.last; ++i) {
    const Token& token = unit_.tokens[i];
    const bool plain = !is_word(token) || types_.count(token.text) || is_value_type(token.text);
    if (!plain && !token.is("metal")) return false;
  }
  return true;
}

}  // namespace mlx_kd::msl
