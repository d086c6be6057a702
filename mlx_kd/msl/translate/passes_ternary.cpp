#include <set>

#include "mlx_kd/msl/translate/passes.h"

namespace mlx_kd::msl {
namespace {

// Whether a value of a 16-bit type can occur in the source at all.
bool has_small_floats(const Unit& unit) {
  for (const Token& token : unit.tokens)
    if (token.kind == Kind::word &&
        (is_any(token, {"typename", "auto", "class", "float16_t", "bfloat16_t"}) ||
         token.text.substr(0, 4) == "half" || token.text.substr(0, 6) == "bfloat"))
      return true;
  for (const Function& one : unit.functions)  // a class that converts to numbers
    if (one.member && one.name.rfind("operator", 0) == 0 && one.parameters.empty()) return true;
  for (const Token& token : unit.tokens)
    if (token.kind == Kind::number && (token.text.back() == 'h' || token.text.back() == 'H'))
      return true;
  return false;
}

// No arm is longer, in tokens.
constexpr uint32_t kLongest = 5000;

class Ternaries {
 public:
  Ternaries(const Unit& unit, Edits& edits) : unit_(unit), edits_(edits) {}

  void run(Range body) {
    for (uint32_t i = body.first; i < body.last; ++i)
      if (unit_.tokens[i].is("?")) edit(i, body);
  }

 private:
  const Token& token(uint32_t i) const { return unit_.tokens[i]; }

  // The index behind brackets and template arguments that start at i, else i + 1.
  uint32_t over(uint32_t i, uint32_t end) const {
    if (unit_.partner[i] > i) return unit_.partner[i] + 1;
    if (!token(i).is("<") || token(i - 1).kind != Kind::word) return i + 1;
    const uint32_t after = unit_.behind_angles(i, end);
    return after > i && after < end &&
                   is_any(token(after), {"(", "{", "::", ":", ";", ",", ")", "]", "}"})
               ? after
               : i + 1;
  }

  uint32_t find_colon(uint32_t question, uint32_t end) const {
    int open = 0;
    for (uint32_t i = question + 1; i < end && i < question + kLongest; i = over(i, end)) {
      if (token(i).is("?")) ++open;
      if (token(i).is(":") && open-- == 0) return i;
      if (is_any(token(i), {";", "}", ")"})) return 0;
    }
    return 0;
  }

  uint32_t find_end(uint32_t colon, uint32_t end) const {
    int open = 0;
    for (uint32_t i = colon + 1; i < end && i < colon + kLongest; i = over(i, end)) {
      if (token(i).is("?")) ++open;
      if (is_any(token(i), {",", ";", ")", "]", "}"})) return i;
      if (token(i).is(":") && open-- == 0) return i;
    }
    return 0;
  }

  uint32_t find_start(uint32_t question, uint32_t first) const {
    uint32_t i = question;
    while (i > first) {
      const Token& before = token(i - 1);
      if (is_any(before, {"(", "[", "{", "}", ",", ";", "?", ":", "=",
                          "+=", "-=", "*=", "/=", "&=", "|=", "^=", "%=", "return", "case"}) ||
          before.kind == Kind::pragma)
        break;
      i = unit_.partner[i - 1] < i - 1 ? unit_.partner[i - 1] : i - 1;
    }
    return i;
  }

  bool literal(uint32_t first, uint32_t last) const {
    const uint32_t only = first + (token(first).is("-") ? 1 : 0);
    return only + 1 == last &&
           (token(only).kind == Kind::number || is_any(token(only), {"true", "false", "nullptr"}));
  }

  // Arms that cannot go into a lambda: they assign, or are text.
  bool acts(uint32_t first, uint32_t last) const {
    for (uint32_t i = first; i < last; i = over(i, last))
      if (is_any(token(i), {"=", "+=", "-=", "*=", "++", "--", "nullptr"}) ||
          token(i).kind == Kind::text)
        return true;
    return false;
  }

  // X<c ? 1 : 2>: no place for a lambda.
  bool in_template_arguments(uint32_t question, Range body) const {
    uint32_t seen = 0;
    for (uint32_t i = question; i > body.first + 1 && seen < 200; ++seen) {
      i = unit_.partner[i - 1] < i - 1 ? unit_.partner[i - 1] : i - 1;
      if (is_any(token(i), {";", "{", "}", "("})) return false;
      if (!token(i).is("<") || token(i - 1).kind != Kind::word) continue;
      const uint32_t after = unit_.behind_angles(i, body.last);
      if (after > question && after < body.last &&
          is_any(token(after), {"(", ";", "{", "::", ">", ",", "&", "*"}))
        return true;
    }
    return false;
  }

  void edit(uint32_t question, Range body) {
    if (in_template_arguments(question, body)) return;
    const uint32_t colon = find_colon(question, body.last);
    const uint32_t end = colon ? find_end(colon, body.last) : 0;
    const uint32_t start = find_start(question, body.first);
    if (!colon || !end || colon == question + 1 || end == colon + 1 || start == question) return;
    if (literal(question + 1, colon) && literal(colon + 1, end)) return;
    if (acts(question + 1, colon) || acts(colon + 1, end)) return;
    edits_.before(start, "kd_pick(");
    edits_.replace(question, ", [&] { return");
    edits_.replace(colon, "; }, [&] { return");
    edits_.after(end - 1, "; })");
  }

  const Unit& unit_;
  Edits& edits_;
};

}  // namespace

void edit_ternaries(const Unit& unit, Edits& edits) {
  if (!has_small_floats(unit)) return;
  for (const Function& one : unit.functions)
    if (one.definition) Ternaries(unit, edits).run(one.body);
}

}  // namespace mlx_kd::msl
