#include "mlx_kd/msl/parse/parser.h"

#include "mlx_kd/msl/parse/attributes.h"
#include "mlx_kd/msl/parse/declarator.h"
#include "mlx_kd/msl/parse/deduction.h"
#include "mlx_kd/msl/parse/memory_words.h"

namespace mlx_kd::msl {
namespace {

constexpr int kMaxScopes = 100;

class Parser {
 public:
  explicit Parser(Unit& unit) : unit_(unit), tokens_(unit.tokens) {}

  void run() {
    match_brackets();
    find_attributes();
    scope(0, static_cast<uint32_t>(tokens_.size()), "", false, 0);
  }

 private:
  [[noreturn]] void refuse_at(uint32_t i, const std::string& message) {
    refuse(*unit_.sources, tokens_[i].at, message);
  }

  void match_brackets() {
    unit_.partner.resize(tokens_.size());
    std::vector<uint32_t> open;
    for (uint32_t i = 0; i < tokens_.size(); ++i) {
      unit_.partner[i] = i;
      if (tokens_[i].kind != Kind::punctuation) continue;
      if (is_any(tokens_[i], {"(", "[", "{"})) open.push_back(i);
      if (!is_any(tokens_[i], {")", "]", "}"})) continue;
      if (open.empty()) refuse_at(i, "'" + std::string(tokens_[i].text) + "' closes nothing");
      const uint32_t from = open.back();
      const char wanted = tokens_[from].is("(") ? ')' : tokens_[from].is("[") ? ']' : '}';
      if (tokens_[i].text[0] != wanted)
        refuse_at(i, "'" + std::string(tokens_[i].text) + "' does not close the '" +
                         std::string(tokens_[from].text) + "' of " +
                         unit_.sources->describe(tokens_[from].at));
      open.pop_back();
      unit_.partner[from] = i;
      unit_.partner[i] = from;
    }
    if (!open.empty())
      refuse_at(open.back(),
                "this '" + std::string(tokens_[open.back()].text) + "' is never closed");
  }

  void find_attributes() {
    for (uint32_t i = 0; i + 1 < tokens_.size(); ++i) {
      if (!tokens_[i].is("[") || !tokens_[i + 1].is("[")) continue;
      const uint32_t end = unit_.partner[i];
      if (unit_.partner[i + 1] + 1 != end) continue;  // x[[] { ... }()] is not an attribute
      read_attributes(unit_, i, end + 1);
      i = end;
    }
  }

  // Declarations of one namespace or struct.
  void scope(uint32_t i, uint32_t end, const std::string& name, bool member, int depth) {
    if (depth > kMaxScopes) refuse_at(i, "scopes nested deeper than 100");
    while (i < end) i = declaration(i, end, name, member, depth);
  }

  uint32_t declaration(uint32_t i, uint32_t end, const std::string& name, bool member, int depth) {
    const Token& token = tokens_[i];
    if (token.is(";") || token.kind == Kind::pragma) return i + 1;
    if (token.is("}")) refuse_at(i, "'}' closes nothing");
    if (token.is("namespace")) return name_space(i, end, name, depth);
    if (is_any(token, {"using", "typedef"})) return alias(i, end, name, depth);
    if (token.is("static_assert")) return behind(i, end);
    if (token.is("friend")) return behind_friend(i, end);
    if (is_any(token, {"public", "private", "protected"}) && i + 1 < end && tokens_[i + 1].is(":"))
      return i + 2;
    if (token.is("extern") && i + 1 < end && tokens_[i + 1].kind == Kind::text) return i + 2;
    if (token.is("{")) {
      scope(i + 1, unit_.partner[i], name, member, depth + 1);
      return unit_.partner[i] + 1;
    }
    if (token.is("template") && i + 1 < end && !tokens_[i + 1].is("<"))
      return instantiation(i, end);
    std::vector<TemplateParameter> templates;
    const uint32_t head = template_head(i, end, templates);
    if (head < end && is_any(tokens_[head], {"using", "static_assert"})) return behind(head, end);
    if (head < end && tokens_[head].is("friend")) return behind_friend(head, end);
    if (head < end && is_any(tokens_[head], {"struct", "class", "union", "enum"})) {
      const uint32_t after = type_definition(head, end, name, depth);
      if (after && head > i && specialises(head, after)) unit_.specialised.push_back({i, after});
      if (after) return after;
    }
    return plain(i, head, end, name, member, std::move(templates));
  }

  // The index behind the ';' that ends what starts at i.
  uint32_t behind(uint32_t i, uint32_t end) const {
    while (i < end && !tokens_[i].is(";")) i = unit_.partner[i] > i ? unit_.partner[i] + 1 : i + 1;
    return i < end ? i + 1 : end;
  }

  // A friend may be a whole function.
  uint32_t behind_friend(uint32_t i, uint32_t end) const {
    for (; i < end && !tokens_[i].is(";"); i = unit_.partner[i] > i ? unit_.partner[i] + 1 : i + 1)
      if (tokens_[i].is("{")) return unit_.partner[i] + 1;
    return i < end ? i + 1 : end;
  }

  // using NAME = TYPE; typedef TYPE NAME; typedef TYPE NAME[N];
  uint32_t alias(uint32_t i, uint32_t end, const std::string& name_space, int depth) {
    const uint32_t last = behind(i, end);
    const bool typedefs = tokens_[i].is("typedef");
    if (typedefs && i + 1 < end && is_any(tokens_[i + 1], {"struct", "union"}))
      for (uint32_t k = i + 2; k < last; ++k)
        if (tokens_[k].is("{")) {
          scope(k + 1, unit_.partner[k], name_space + text(last - 2) + "::", true, depth + 1);
          return last;
        }
    uint32_t name = i + 1, first = i + 3, stop = last - 1;
    if (typedefs) {
      first = i + 1;
      const bool array = stop > first && tokens_[stop - 1].is("]");
      for (name = stop - 1; name > first && tokens_[name].is("]");) name = unit_.partner[name] - 1;
      if (array && tokens_[name].kind == Kind::word) unit_.arrays.insert(text(name));
      if (array) return last;
      stop = name;
    } else if (i + 2 >= last || !tokens_[i + 2].is("=")) {
      return last;
    }
    if (first + 2 < stop && tokens_[first].is("metal") && tokens_[first + 1].is("::")) first += 2;
    if (name < last && first + 1 == stop && tokens_[first].kind == Kind::word)
      unit_.aliases.emplace(text(name), text(first));
    return last;
  }

  std::string text(uint32_t i) const { return std::string(tokens_[i].text); }

  uint32_t name_space(uint32_t i, uint32_t end, const std::string& name, int depth) {
    std::string inner = name;
    uint32_t k = i + 1;
    for (; k < end && !is_any(tokens_[k], {"{", ";", "="}); ++k)
      if (tokens_[k].kind == Kind::word) inner += std::string(tokens_[k].text) + "::";
    if (k == end) refuse_at(i, "this namespace has no body");
    if (!tokens_[k].is("{")) return behind(k, end);
    scope(k + 1, unit_.partner[k], inner, false, depth + 1);
    return unit_.partner[k] + 1;
  }

  // template <...>, possibly several; returns the index behind them.
  uint32_t template_head(uint32_t i, uint32_t end, std::vector<TemplateParameter>& found) {
    while (i + 1 < end && tokens_[i].is("template") && tokens_[i + 1].is("<")) {
      const uint32_t after = unit_.behind_angles(i + 1, end);
      if (after == i + 1) refuse_at(i, "the parameters of this template have no end");
      for (const Range& part : split_list(unit_, {i + 2, after - 1}))
        found.push_back(read_template_parameter(unit_, part));
      i = after;
    }
    return i;
  }

  // 0 if this is not a definition of a type (a variable or a function of such a type).
  uint32_t type_definition(uint32_t i, uint32_t end, const std::string& name, int depth) {
    std::string type;  // with the arguments of a specialisation
    uint32_t k = i + 1, inherits = 0;
    for (; k < end && !is_any(tokens_[k], {"{", ";", "(", "="}); ++k) {
      if (tokens_[k].is("[")) k = unit_.partner[k];
      if (is_any(tokens_[k], {"alignas", "__attribute__"}) && k + 1 < end &&
          tokens_[k + 1].is("(")) {
        k = unit_.partner[k + 1];
        continue;
      }
      if (type.empty() && tokens_[k].kind == Kind::word && !tokens_[k].is("class"))
        type = std::string(tokens_[k].text);
      if (tokens_[k].is(":") && inherits == 0) inherits = k;
      if (!tokens_[k].is("<") || tokens_[k - 1].kind != Kind::word) continue;
      const uint32_t after = unit_.behind_angles(k, end);
      if (after > k && inherits == 0) type += spell(&tokens_[k], &tokens_[0] + after);
      if (after > k) k = after - 1;  // bases have arguments with brackets in them
    }
    if (k == end) refuse_at(i, "this type has no end");
    if (tokens_[k].is(";")) return k + 1;
    if (!tokens_[k].is("{")) return 0;
    if (!tokens_[i].is("enum")) scope(k + 1, unit_.partner[k], name + type + "::", true, depth + 1);
    const uint32_t close = unit_.partner[k];
    const bool unnamed = close + 1 < end && tokens_[close + 1].is(";");
    if (type.empty() && unnamed && depth > 0 && tokens_[i].is("struct")) hold({k + 1, close});
    return behind(close, end);
  }

  // struct name<...> {
  bool specialises(uint32_t i, uint32_t end) const {
    return i + 2 < end && tokens_[i + 1].kind == Kind::word && tokens_[i + 2].is("<");
  }

  // The types of the members of an anonymous struct.
  void hold(Range members) {
    for (uint32_t i = members.first; i < members.last;) {
      const uint32_t last = behind(i, members.last);
      uint32_t first = i;
      while (first < last && tokens_[first].is("const")) ++first;
      const bool two = first + 2 < last && tokens_[first].kind == Kind::word &&
                       tokens_[first + 1].kind == Kind::word;
      if (two && !is_any(tokens_[first], {"struct", "union", "enum", "unsigned", "signed"}))
        unit_.held.push_back({first, first + 1});
      i = last;
    }
  }

  uint32_t instantiation(uint32_t i, uint32_t end) {
    Instantiation found;
    found.at = tokens_[i].at;
    found.tokens = {i, behind(i, end)};
    for (uint32_t k = i + 1; k + 1 < found.tokens.last; ++k) {
      if (tokens_[k].is("[")) k = unit_.partner[k];
      if (tokens_[k].is("(")) k = unit_.partner[k];
      if (tokens_[k].kind != Kind::word || !tokens_[k + 1].is("<")) continue;
      const uint32_t after = unit_.behind_angles(k + 1, found.tokens.last);
      if (after == k + 1) refuse_at(k, "the arguments of this template have no end");
      found.function = std::string(tokens_[k].text);
      found.arguments = spell(&tokens_[k + 1], &tokens_[0] + after);
      found.values.clear();
      for (const Range& part : split_list(unit_, {k + 2, after - 1}))
        found.values.push_back(spell(&tokens_[part.first], &tokens_[0] + part.last));
      k = after - 1;
    }
    if (found.function.empty()) deduce_arguments(unit_, i, found);
    for (const Attribute& one : attributes_in(unit_, found.tokens))
      if (one.name == "host_name") found.host_name = unquoted(unit_, one);
    if (found.function.empty())
      refuse_at(i,
                "an explicit instantiation names its arguments: template [[host_name(\"f\")]] "
                "kernel decltype(f<float>) f<float>;");
    if (!found.host_name.empty()) unit_.instantiations.push_back(found);
    return found.tokens.last;
  }

  // A function or a variable.
  uint32_t plain(uint32_t first, uint32_t head, uint32_t end, const std::string& name, bool member,
                 std::vector<TemplateParameter> templates) {
    uint32_t k = head;
    while (k < end) {
      const Token& token = tokens_[k];
      if (token.is("operator")) return function(first, head, k, end, name, member, templates);
      if (is_any(token, {";", "=", "{"})) break;
      if (token.is("(") && k > head && names_function(k - 1))
        return function(first, head, k - 1, end, name, member, templates);
      if (token.is("<") && k > head && tokens_[k - 1].kind == Kind::word) {
        const uint32_t after = unit_.behind_angles(k, end);
        const bool named = after > k && after < end && tokens_[after].is("(");
        const std::string own = text(k - 1) + "::";  // a constructor: pair<T>()
        const bool constructs = member && name.size() >= own.size() &&
                                name.compare(name.size() - own.size(), own.size(), own) == 0;
        if (named && names_function(k - 1) &&
            (head > first || constructs))  // or template <> f<half>()
          return function(first, head, k - 1, end, name, member, templates);
        k = std::max(after, k + 1);
      } else
        k = unit_.partner[k] > k ? unit_.partner[k] + 1 : k + 1;
    }
    const Range range = {head, behind(head, end)};
    if (member)
      read_fields(unit_, range);
    else
      read_globals(unit_, range, first);
    return range.last;
  }

  bool names_function(uint32_t i) const {
    return tokens_[i].kind == Kind::word &&
           !is_any(tokens_[i], {"decltype", "alignas", "sizeof", "__attribute__", "noexcept"});
  }

  uint32_t function(uint32_t first, uint32_t head, uint32_t name_at, uint32_t end,
                    const std::string& scope_name, bool member,
                    std::vector<TemplateParameter> templates) {
    Function found;
    found.head = head;
    found.name_at = name_at;
    found.at = tokens_[name_at].at;
    found.scope = scope_name + scope_before(name_at, head);
    found.member = member || found.scope != scope_name;
    found.templates = std::move(templates);
    found.specialised = head > first && found.templates.empty();
    found.open = parameters_of(name_at, end);
    const bool plain_name = tokens_[name_at + 1].is("<") && !tokens_[name_at].is("operator");
    found.name = plain_name ? text(name_at) : spell(&tokens_[name_at], &tokens_[found.open]);
    const uint32_t close = unit_.partner[found.open];
    for (const Range& part : split_list(unit_, {found.open + 1, close}))
      found.parameters.push_back(read_parameter(unit_, part));
    uint32_t k = close + 1;
    while (k < end && !is_any(tokens_[k], {"{", ";", ":"}))
      k = unit_.partner[k] > k ? unit_.partner[k] + 1 : k + 1;
    if (k < end && tokens_[k].is(":")) k = behind_initialisers(k + 1, end);
    if (k < end && tokens_[k].is(";"))
      found.given = is_any(tokens_[k - 1], {"default", "delete"}) && tokens_[k - 2].is("=");
    if (k == end) refuse_at(name_at, "this function has neither a body nor a ';'");
    found.definition = tokens_[k].is("{");
    if (found.definition) found.body = {k, unit_.partner[k] + 1};
    found.tokens = {first, unit_.partner[k] + 1};
    read_function_head(unit_, found);
    unit_.functions.push_back(std::move(found));
    return unit_.functions.back().tokens.last;
  }

  // "Block<T>::" in front of the name at i.
  std::string scope_before(uint32_t i, uint32_t first) const {
    uint32_t start = i;
    while (start > first + 1 && tokens_[start - 1].is("::")) {
      uint32_t k = start - 2;
      while (k > first && is_any(tokens_[k], {">", ">>"}) && tokens_[k].kind != Kind::word) {
        uint32_t open = k;
        while (open > first && !(tokens_[open].is("<") && unit_.behind_angles(open, i) == k + 1))
          --open;
        if (open == first) return "";
        k = open - 1;
      }
      if (tokens_[k].kind != Kind::word) break;
      start = k;
    }
    return start < i ? spell(&tokens_[start], &tokens_[i]) : "";
  }

  // Behind a constructor's "a(1), b{2}", which starts at i.
  uint32_t behind_initialisers(uint32_t i, uint32_t end) const {
    while (i < end) {
      while (i < end && !is_any(tokens_[i], {"(", "{"})) {
        const uint32_t after = tokens_[i].is("<") ? unit_.behind_angles(i, end) : i;
        i = after > i ? after : i + 1;
      }
      if (i < end) i = unit_.partner[i] + 1;
      if (i >= end || !tokens_[i].is(",")) return i;
      ++i;
    }
    return end;
  }

  // The bracket that opens the parameters of the function whose name starts at i.
  uint32_t parameters_of(uint32_t i, uint32_t end) {
    if (!tokens_[i].is("operator"))
      return tokens_[i + 1].is("<") ? unit_.behind_angles(i + 1, end) : i + 1;
    uint32_t k = i + 1;
    if (k + 1 < end && tokens_[k].is("(")) k += 2;
    while (k < end && !is_any(tokens_[k], {"(", ";", "{", "}"})) ++k;
    if (k >= end || !tokens_[k].is("(")) refuse_at(i, "this operator has no parameters");
    return k;
  }

  Unit& unit_;
  const Tokens& tokens_;
};

}  // namespace

Unit parse(const std::string& name, const std::string& text, const PreprocessOptions& options,
           Unsupported attributes) {
  Unit unit;
  unit.keeps_unsupported = attributes == Unsupported::kept;
  unit.sources = std::make_shared<SourceSet>();
  unit.file = unit.sources->add(name, text);
  unit.tokens = without_memory_words(preprocess(*unit.sources, unit.file, options));
  Parser(unit).run();
  return unit;
}

}  // namespace mlx_kd::msl
