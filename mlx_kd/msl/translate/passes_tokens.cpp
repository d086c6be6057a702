#include <algorithm>
#include <set>

#include "mlx_kd/msl/parse/attributes.h"
#include "mlx_kd/msl/parse/declarator.h"
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
      edits.replace(i, (assigns(unit.tokens[i + 1]) ? "place(kd_order<" : "swizzle(kd_order<") +
                           order + ">{})");
  }
}

namespace {

// A parameter of a template that may be the width of a vector: its type and its name.
struct WidthParameter {
  uint32_t type;
  std::string_view name;
};

// Of the list that begins with "<" at `open`; `end` becomes the place of its ">".
std::vector<WidthParameter> width_parameters(const std::vector<Token>& tokens, uint32_t open,
                                             uint32_t& end) {
  static const std::set<std::string_view> types = {"uint", "unsigned", "size_t", "uint32_t",
                                                   "ushort"};
  std::vector<WidthParameter> found;
  int depth = 0;
  for (end = open; end + 1 < tokens.size(); ++end) {
    depth += tokens[end].is("<") ? 1 : tokens[end].is(">") ? -1 : tokens[end].is(">>") ? -2 : 0;
    if (depth <= 0) return found;
    const bool begins = tokens[end].is("<") || tokens[end].is(",");
    if (depth == 1 && begins && end + 2 < tokens.size() && types.count(tokens[end + 1].text) &&
        tokens[end + 2].kind == Kind::word)
      found.push_back({end + 1, tokens[end + 2].text});
  }
  return found;
}

// Whether tokens[comma] parts the arguments of a vec<T, N>.
bool is_in_vector(const std::vector<Token>& tokens, uint32_t comma) {
  for (uint32_t back = 2; back <= 8 && back <= comma; ++back)
    if (tokens[comma - back].is("vec")) return tokens[comma - back + 1].is("<");
  return false;
}

}  // namespace

void edit_widths(const Unit& unit, Edits& edits) {
  const std::vector<Token>& tokens = unit.tokens;
  for (uint32_t i = 0; i + 1 < tokens.size(); ++i) {
    if (!tokens[i].is("template") || !tokens[i + 1].is("<")) continue;
    uint32_t at = 0;
    const auto widths = width_parameters(tokens, i + 1, at);
    for (; at + 2 < tokens.size() && !tokens[at].is("{") && !tokens[at].is(";"); ++at)
      for (const WidthParameter& one : widths)
        if (tokens[at].is(",") && tokens[at + 1].text == one.name &&
            (tokens[at + 2].is(">") || tokens[at + 2].is(">>")) && is_in_vector(tokens, at))
          edits.replace(one.type, "int");
  }
}

namespace {

// 4 for "uint4", 0 for what is not a vector.
int components(std::string_view type) {
  const char last = type.empty() ? '0' : type.back();
  const bool vector = is_value_type(type) && last >= '2' && last <= '4' &&
                      type.find('x') == std::string_view::npos && type.substr(0, 6) != "packed";
  return vector && !is_value_type(type.substr(0, type.size() - 2)) ? last - '0' : 0;
}

// At i is "=" and behind it "{ [0 ... n] = value }".
void edit_range(const Unit& unit, uint32_t i, Edits& edits) {
  const uint32_t open = i + 1, bracket = i + 2, close = unit.partner[open];
  uint32_t name = i - 1;
  while (name > 0 && unit.tokens[name].is("]")) name = unit.partner[name] - 1;
  const uint32_t equals = unit.partner[bracket] + 1;
  bool range = false;
  for (uint32_t k = bracket; k < equals; ++k) range = range || unit.tokens[k].is("...");
  if (!range || !is_word(unit.tokens[name]) || !unit.tokens[equals].is("=")) return;
  edits.replace(i, "; for (auto& kd_item : " + std::string(unit.tokens[name].text) + ") kd_item =");
  edits.drop({open, equals + 1});
  edits.drop(close);
}

}  // namespace

void edit_braces(const Unit& unit, Edits& edits) {
  for (uint32_t i = 2; i + 2 < unit.tokens.size(); ++i) {
    if (!unit.tokens[i].is("=") || !unit.tokens[i + 1].is("{")) continue;
    const uint32_t close = unit.partner[i + 1];
    if (unit.tokens[i + 2].is("[") && !unit.tokens[i + 3].is("[")) edit_range(unit, i, edits);
    const int width = components(unit.tokens[i - 2].text);
    if (width == 0 || !is_word(unit.tokens[i - 1]) || close == i + 2) continue;
    if (split_list(unit, {i + 2, close}).size() >= static_cast<size_t>(width)) continue;
    edits.replace(i + 1, "kd_braces<" + std::string(unit.tokens[i - 2].text) + ">(");
    edits.replace(close, ")");
  }
}

// An overload of one of Metal's functions takes a site too, as those do.
std::set<std::string_view> edit_overloads_of_exchanges(const Unit& unit, Edits& edits) {
  std::set<std::string_view> own;
  for (const Function& one : unit.functions) {
    if (one.member || !is_exchange(one.name)) {
      own.insert(one.name);
      continue;
    }
    edits.after(one.open, one.parameters.empty() ? "kd_site kd_here" : "kd_site kd_here, ");
  }
  return own;
}

namespace {

// Metal's functions that take a site, and not what begins like them.
bool takes_site(std::string_view name) {
  static const std::set<std::string_view> others = {
      "threadgroup_barrier", "simdgroup_barrier",  "simdgroup_load",
      "simdgroup_store",     "simdgroup_multiply", "simdgroup_multiply_accumulate"};
  return is_exchange(name) || others.count(name) > 0 || name.substr(0, 13) == "__metal_simd_";
}

}  // namespace

std::vector<Position> edit_sites(const Unit& unit, Edits& edits) {
  const std::set<std::string_view> own = edit_overloads_of_exchanges(unit, edits);
  std::vector<Position> sites;
  for (const Function& function : unit.functions) {
    if (!function.definition || sites.size() > 60000) continue;
    for (uint32_t i = function.body.first; i < function.body.last; ++i) {
      const Token& name = unit.tokens[i];
      if (name.kind != Kind::word || !takes_site(name.text)) continue;
      const bool of_object = is_any(unit.tokens[i - 1], {".", "->"});
      if (of_object || (own.count(name.text) && !is_exchange(name.text))) continue;
      const uint32_t open = call_bracket(unit, i, function.body.last);
      if (open == 0) continue;
      const bool bare = unit.partner[open] == open + 1;
      edits.after(open, "kd_site{" + std::to_string(sites.size()) + (bare ? "}" : "}, "));
      sites.push_back(name.at);
    }
  }
  return sites;
}

}  // namespace mlx_kd::msl
