#include <algorithm>
#include <set>

#include "mlx_kd/msl/translate/passes.h"

namespace mlx_kd::msl {
namespace {

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

// What C++ writes for a number of Metal; empty if it is the same.
std::string literal(std::string_view text) {
  const bool hex = text.size() > 1 && (text[1] == 'x' || text[1] == 'X');
  const std::string_view marks = hex ? ".pP" : ".eE";
  if (text.find_first_of(marks) == std::string_view::npos) return "";
  const char last = text.back();
  if (ends_with(text, "bf") || ends_with(text, "BF"))
    return "bfloat(" + std::string(text.substr(0, text.size() - 2)) + "f)";
  if (last == 'h' || last == 'H')
    return "half(" + std::string(text.substr(0, text.size() - 1)) + "f)";
  if (last == 'f' || last == 'F') return "";
  if (last == 'l' || last == 'L') text = text.substr(0, text.size() - 1);
  return std::string(text) + "f";
}

// "xyz" -> "0, 1, 2"; empty if it is not a swizzle.
std::string order_of(std::string_view name) {
  for (const std::string_view set : {"xyzw", "rgba"}) {
    std::string order;
    for (const char c : name) {
      const size_t index = set.find(c);
      if (index == std::string_view::npos) break;
      order += (order.empty() ? "" : ", ") + std::to_string(index);
    }
    if (!name.empty() && name.size() <= 4 && order.size() == 3 * name.size() - 2) return order;
  }
  return "";
}

bool assigns(const Token& token) {
  static const std::set<std::string_view> marks = {
      "=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>=", "++", "--"};
  return marks.count(token.text) > 0;
}

}  // namespace

void edit_literals(const Unit& unit, Edits& edits) {
  for (uint32_t i = 0; i < unit.tokens.size(); ++i) {
    if (unit.tokens[i].kind != Kind::number) continue;
    std::string text = literal(unit.tokens[i].text);
    if (!text.empty()) edits.replace(i, std::move(text));
  }
}

void edit_swizzles(const Unit& unit, Edits& edits) {
  for (uint32_t i = 1; i + 1 < unit.tokens.size(); ++i) {
    const Token& name = unit.tokens[i];
    if (name.kind != Kind::word || name.text.size() > 4) continue;
    if (!unit.tokens[i - 1].is(".") && !unit.tokens[i - 1].is("->")) continue;
    const std::string order = order_of(name.text);
    if (order.empty() || unit.fields.count(std::string(name.text))) continue;
    if (unit.tokens[i + 1].is("(")) continue;
    if (name.text.size() == 1)
      edits.replace(i, std::string(1, "xyzw"[order[0] - '0']));
    else
      edits.replace(
          i, (assigns(unit.tokens[i + 1]) ? "place(order<" : "swizzle(order<") + order + ">{})");
  }
}

std::vector<Position> edit_sites(const Unit& unit, Edits& edits) {
  std::set<std::string_view> own;
  for (const Function& one : unit.functions) own.insert(one.name);
  std::vector<Position> sites;
  for (const Function& function : unit.functions) {
    if (!function.definition || sites.size() > 60000) continue;
    for (uint32_t i = function.body.first; i < function.body.last; ++i) {
      const Token& name = unit.tokens[i];
      if (name.kind != Kind::word || !is_meeting(name.text) || own.count(name.text)) continue;
      const uint32_t open = call_bracket(unit, i, function.body.last);
      if (open == 0 || name.is("simdgroup_matrix") || name.is("simd_vote") ||
          (name.text.size() > 10 && name.text.substr(name.text.size() - 3) == "8x8"))
        continue;
      const bool bare = unit.partner[open] == open + 1;
      edits.after(open, "kd_site{" + std::to_string(sites.size()) + (bare ? "}" : "}, "));
      sites.push_back(name.at);
    }
  }
  return sites;
}

}  // namespace mlx_kd::msl
