#include "mlx_kd/msl/parse/declarator.h"

#include <algorithm>
#include <cstdlib>

#include "mlx_kd/msl/parse/attributes.h"

namespace mlx_kd::msl {
namespace {

// Where the declarator's extras begin: an attribute, an initialiser, an array bound.
uint32_t end_of_name(const Unit& unit, Range range) {
  for (uint32_t i = range.first; i < range.last; ++i) {
    const Token& token = unit.tokens[i];
    if (token.is("[") || token.is("=") || token.is("{") || token.is(":")) return i;
    if (token.is("<") && i > range.first) {
      const uint32_t after = unit.behind_angles(i, range.last);
      if (after > i) i = after - 1;
    } else if (unit.partner[i] > i) {
      i = unit.partner[i];
    }
  }
  return range.last;
}

// "1200+3" -> "1203"; any other text as it is.
std::string value_of(const std::string& text) {
  if (text.find_first_not_of("0123456789+- ()") != text.npos ||
      text.find_first_of("+-") == text.npos)
    return text;
  long sum = 0, sign = 1;
  for (size_t i = 0; i < text.size();) {
    if (text[i] >= '0' && text[i] <= '9') {
      char* end = nullptr;
      sum += sign * std::strtol(text.c_str() + i, &end, 10);
      sign = 1;
      i = static_cast<size_t>(end - text.c_str());
      continue;
    }
    if (text[i] == '(' && sign < 0) return text;
    if (text[i] == '-') sign = -sign;
    ++i;
  }
  return std::to_string(sum);
}

bool is_specifier(const Token& token) {
  static const std::set<std::string_view> words = {
      "const",    "constexpr", "static",   "inline",      "volatile", "extern",
      "device",   "constant",  "thread",   "threadgroup", "kernel",   "struct",
      "typename", "mutable",   "unsigned", "signed",      "coherent"};
  return words.count(token.text) > 0;
}

// The index of the declared name in [first, last), or last if nothing is named.
uint32_t find_name(const Unit& unit, uint32_t first, uint32_t last) {
  if (last <= first + 1) return last;
  const Token& name = unit.tokens[last - 1];
  if (name.kind != Kind::word || is_specifier(name)) return last;
  for (uint32_t i = first; i + 1 < last; ++i) {
    const Token& token = unit.tokens[i];
    const bool type = token.kind == Kind::word &&
                      (!is_specifier(token) || token.is("unsigned") || token.is("signed"));
    if (type && !unit.tokens[i + 1].is("::")) return last - 1;
  }
  return last;
}

std::string type_text(const Unit& unit, uint32_t first, uint32_t last) {
  Tokens kept;
  for (uint32_t i = first; i < last; ++i) {
    const Token& token = unit.tokens[i];
    const bool dropped = space_named(token.text) != Space::none || token.is("const") ||
                         token.is("constexpr") || token.is("static") || token.is("volatile") ||
                         token.is("*") || token.is("&") || token.is("inline") ||
                         token.is("struct") || token.is("coherent");
    if (!dropped) kept.push_back(token);
  }
  return spell(kept.data(), kept.data() + kept.size());
}

Space space_in(const Unit& unit, uint32_t first, uint32_t last) {
  for (uint32_t i = first; i < last; ++i)
    if (const Space space = space_named(unit.tokens[i].text); space != Space::none) return space;
  return Space::none;
}

bool holds(const Unit& unit, uint32_t first, uint32_t last, std::string_view word) {
  for (uint32_t i = first; i < last; ++i)
    if (unit.tokens[i].is(word)) return true;
  return false;
}

}  // namespace

void read_attributes(Unit& unit, uint32_t first, uint32_t last) {
  for (const Range& part : split_list(unit, {first + 2, last - 2})) {
    Attribute found;
    found.tokens = {first, last};
    found.at = unit.tokens[part.first].at;
    uint32_t k = part.first;
    while (k < part.last && !unit.tokens[k].is("(")) found.name += unit.tokens[k++].text;
    if (k < part.last)
      found.argument = value_of(spell(&unit.tokens[k] + 1, &unit.tokens[0] + unit.partner[k]));
    const Known known = known_attribute(found.name);
    if (known == Known::unsupported && !unit.keeps_unsupported)
      refuse(*unit.sources, found.at,
             "[[" + found.name + "]] is not supported: only compute kernels on buffers are");
    if (known == Known::no)
      refuse(*unit.sources, found.at, "Metal has no attribute [[" + found.name + "]]", "5.2");
    unit.attributes.push_back(std::move(found));
  }
}

std::vector<Attribute> attributes_in(const Unit& unit, Range range) {
  std::vector<Attribute> found;
  const auto before = [](const Attribute& one, uint32_t first) { return one.tokens.first < first; };
  auto one = std::lower_bound(unit.attributes.begin(), unit.attributes.end(), range.first, before);
  for (; one != unit.attributes.end() && one->tokens.first < range.last; ++one)
    if (one->tokens.last <= range.last) found.push_back(*one);
  return found;
}

std::string unquoted(const Unit& unit, const Attribute& attribute) {
  const std::string& text = attribute.argument;
  if (text.size() < 3 || text.front() != '"' || text.back() != '"')
    refuse(*unit.sources, attribute.at, "[[" + attribute.name + "]] needs a name in quotes",
           "5.1.10");
  std::string name;
  for (const char c : text)
    if (c != '"') name += c;  // adjacent literals are one
  return name;
}

std::vector<Range> split_list(const Unit& unit, Range range) {
  std::vector<Range> parts;
  if (range.empty()) return parts;
  uint32_t start = range.first;
  for (uint32_t i = range.first; i < range.last; ++i) {
    const Token& token = unit.tokens[i];
    if (token.is(",")) {
      parts.push_back({start, i});
      start = i + 1;
    } else if (token.is("<") && i > range.first && unit.tokens[i - 1].kind == Kind::word) {
      const uint32_t after = unit.behind_angles(i, range.last);
      if (after > i) i = after - 1;
      const bool shared = range.last < unit.tokens.size() && unit.tokens[range.last].is(">>");
      if (after == i && shared) i = range.last;  // one ">>" closes this list and that around it
    } else if (unit.partner[i] > i) {
      i = unit.partner[i];
    }
  }
  parts.push_back({start, range.last});
  for (const Range& part : parts)
    if (part.empty())
      refuse(*unit.sources, unit.tokens[std::max(range.first, 1u) - 1].at,
             "a part of this list is empty");
  return parts;
}

TemplateParameter read_template_parameter(const Unit& unit, Range range) {
  TemplateParameter found;
  const uint32_t end = end_of_name(unit, range);
  found.has_default = end < range.last;
  found.kind = std::string(unit.tokens[range.first].text);
  if (found.kind == "class") found.kind = "typename";
  if (end > range.first + 1 && unit.tokens[end - 1].kind == Kind::word)
    found.name = std::string(unit.tokens[end - 1].text);
  return found;
}

namespace {

// float (&tile)[32]: the index of the name; 0 if the declarator is another.
uint32_t name_in_brackets(const Unit& unit, uint32_t first, uint32_t end) {
  if (end < first + 4 || !unit.tokens[end - 1].is(")")) return 0;
  const uint32_t open = unit.partner[end - 1];
  const bool refers = open > first && is_any(unit.tokens[open + 1], {"&", "*"});
  return refers && open + 4 == end && unit.tokens[open + 2].kind == Kind::word ? open + 2 : 0;
}

void read_referred_array(const Unit& unit, uint32_t first, uint32_t name, Parameter& found) {
  found.at = unit.tokens[name].at;
  found.name = std::string(unit.tokens[name].text);
  found.type = type_text(unit, first, name - 2);
  found.space = space_in(unit, first, name);
  found.is_const = holds(unit, first, name, "const") || found.space == Space::constant;
  found.pointer = unit.tokens[name - 1].is("*");
  found.reference = unit.tokens[name - 1].is("&");
}

}  // namespace

Parameter read_parameter(const Unit& unit, Range range) {
  Parameter found;
  found.tokens = range;
  found.attributes = attributes_in(unit, range);
  const uint32_t end = end_of_name(unit, range);
  if (const uint32_t inner = name_in_brackets(unit, range.first, end)) {
    read_referred_array(unit, range.first, inner, found);
    return found;
  }
  const uint32_t name = find_name(unit, range.first, end);
  found.at = unit.tokens[name < end ? name : range.first].at;
  if (name < end) found.name = std::string(unit.tokens[name].text);
  found.type = type_text(unit, range.first, name);
  found.space = space_in(unit, range.first, name);
  found.is_const = holds(unit, range.first, name, "const") || found.space == Space::constant;
  const bool array = end < range.last && unit.tokens[end].is("[") && !unit.tokens[end + 1].is("[");
  found.pointer = holds(unit, range.first, name, "*") || array;
  found.reference = holds(unit, range.first, name, "&");
  return found;
}

void read_function_head(const Unit& unit, Function& function) {
  function.attributes = attributes_in(unit, {function.tokens.first, function.open});
  Tokens kept;
  for (uint32_t i = function.head; i < function.name_at; ++i) {
    const Token& token = unit.tokens[i];
    if (token.is("kernel")) function.kernel = true;
    if (token.is("[") && unit.tokens[i + 1].is("["))
      i = unit.partner[i];
    else if (!is_specifier(token))
      kept.push_back(token);
  }
  function.result = spell(kept.data(), kept.data() + kept.size());
  function.host_name = function.name;
  for (const Attribute& one : function.attributes) {
    if (one.name == "kernel") function.kernel = true;
    if (one.name == "host_name") function.host_name = unquoted(unit, one);
  }
}

namespace {

// Behind the name of a declarator that ends at `end`: without the arguments of a specialisation.
uint32_t behind_name(const Unit& unit, uint32_t first, uint32_t end) {
  if (end <= first || !is_any(unit.tokens[end - 1], {">", ">>"})) return end;
  for (uint32_t i = end - 1; i-- > first;)
    if (unit.tokens[i].is("<") && unit.behind_angles(i, end) == end) return i;
  return end;
}

}  // namespace

void read_globals(Unit& unit, Range range, uint32_t start) {
  if (range.last <= range.first + 2) return;
  const std::vector<Range> parts = split_list(unit, {range.first, range.last - 1});
  const uint32_t end = behind_name(unit, range.first, end_of_name(unit, parts[0]));
  const uint32_t name = find_name(unit, range.first, end);
  if (name == end)
    refuse(*unit.sources, unit.tokens[range.first].at, "this is not a declaration of Metal");
  for (const Range& part : parts) {
    Global found;
    const uint32_t stop = end_of_name(unit, part);
    found.name_at = behind_name(unit, part.first, stop) - 1;
    found.name = std::string(unit.tokens[found.name_at].text);
    found.at = unit.tokens[found.name_at].at;
    found.type = type_text(unit, range.first, name);
    found.space = space_in(unit, range.first, name);
    found.tokens = range;
    found.array = stop < part.last && unit.tokens[stop].is("[") && !unit.tokens[stop + 1].is("[");
    found.initialised = holds(unit, stop, part.last, "=") || holds(unit, stop, part.last, "{");
    found.is_constexpr = holds(unit, range.first, name, "constexpr");
    found.start = start;
    found.is_template = start < range.first;
    found.is_member = found.name_at > part.first && unit.tokens[found.name_at - 1].is("::");
    for (const Attribute& one : attributes_in(unit, part))
      if (one.name == "function_constant")
        found.function_constant = std::atoi(one.argument.c_str());
    unit.globals.push_back(std::move(found));
  }
}

void read_fields(Unit& unit, Range range) {
  if (range.last <= range.first + 1) return;
  for (const Range& part : split_list(unit, {range.first, range.last - 1})) {
    const uint32_t end = end_of_name(unit, part);
    if (end > part.first && unit.tokens[end - 1].kind == Kind::word)
      unit.fields.insert(std::string(unit.tokens[end - 1].text));
  }
}

}  // namespace mlx_kd::msl
