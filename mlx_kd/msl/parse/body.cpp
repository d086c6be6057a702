#include "mlx_kd/msl/parse/body.h"

#include "mlx_kd/msl/parse/declarator.h"

namespace mlx_kd::msl {
namespace {

using Words = std::set<std::string_view>;

constexpr int kMaxNesting = 64;  // of nested if, for, while

class BodyReader {
 public:
  BodyReader(const Unit& unit, Range range, const std::set<uint32_t>& variables)
      : unit_(unit), variables_(variables), end_(range.last), at_(range.first) {}

  std::optional<std::vector<BodyStatement>> run() {
    std::vector<BodyStatement> list;
    while (at_ < end_) {
      if (is(at_, ";") || token(at_).kind == Kind::pragma) {
        ++at_;
        continue;
      }
      BodyStatement one;
      one.tokens.first = at_;
      one.tokens.last = behind(at_, 0);
      if (one.tokens.last <= at_ || !classify(one)) return std::nullopt;
      at_ = one.tokens.last;
      list.push_back(std::move(one));
    }
    return list;
  }

 private:
  const Token& token(uint32_t i) const { return unit_.tokens[i]; }
  bool is(uint32_t i, std::string_view text) const { return i < end_ && token(i).is(text); }
  bool one_of(uint32_t i, const Words& words) const {
    return i < end_ && words.count(token(i).text) > 0;
  }

  // Behind the brackets that open at i; 0 if there are none.
  uint32_t behind_bracket(uint32_t i, std::string_view open) const {
    return is(i, open) && unit_.partner[i] > i ? unit_.partner[i] + 1 : 0;
  }

  // Behind the statement that starts at i; 0 if it has no known end.
  uint32_t behind(uint32_t i, int depth) const {
    if (depth > kMaxNesting || i >= end_) return 0;
    if (token(i).kind == Kind::pragma) return behind(i + 1, depth);
    if (is(i, "{")) return behind_bracket(i, "{");
    if (is(i, "if")) return behind_if(i, depth);
    if (is(i, "for") || is(i, "while") || is(i, "switch")) {
      const uint32_t head = behind_bracket(i + 1, "(");
      return head ? behind(head, depth + 1) : 0;
    }
    if (is(i, "do")) {
      const uint32_t body = behind(i + 1, depth + 1);
      const uint32_t head = body && is(body, "while") ? behind_bracket(body + 1, "(") : 0;
      return head && is(head, ";") ? head + 1 : 0;
    }
    return behind_semicolon(i);
  }

  uint32_t behind_if(uint32_t i, int depth) const {
    const uint32_t head = behind_bracket(is(i + 1, "constexpr") ? i + 2 : i + 1, "(");
    const uint32_t yes = head ? behind(head, depth + 1) : 0;
    return yes && is(yes, "else") ? behind(yes + 1, depth + 1) : yes;
  }

  uint32_t behind_semicolon(uint32_t i) const {
    for (; i<end_; i = unit_.partner[i]> i ? unit_.partner[i] + 1 : i + 1)
      if (is(i, ";")) return i + 1;
    return 0;
  }

  bool classify(BodyStatement& one) const {
    static const Words control = {"if", "for", "while", "switch", "do", "{", "return"};
    static const Words refused = {"static", "volatile", "struct",   "union",  "enum",  "case",
                                  "goto",   "default",  "template", "extern", "class", "register"};
    const uint32_t i = one.tokens.first;
    if (one_of(i, control)) return true;
    for (uint32_t k = i; k < one.tokens.last; ++k)
      if (one_of(k, refused)) return false;
    if (is_barrier(one.tokens)) one.kind = BodyStatement::Kind::barrier;
    if (is_shared(one.tokens)) one.kind = BodyStatement::Kind::shared;
    if (one.kind != BodyStatement::Kind::other || read_assignment(one)) return true;
    if (!is_word(token(i)) || starts_expression(i)) return true;
    return read_declaration(one);
  }

  bool is_barrier(Range range) const {
    uint32_t i = range.first;
    if (is(i, "metal") && is(i + 1, "::")) i += 2;
    return is(i, "threadgroup_barrier") && behind_bracket(i + 1, "(") + 1 == range.last;
  }

  bool is_shared(Range range) const {
    if (is(range.first, "using") || is(range.first, "typedef")) return true;
    if (variables_.count(range.first)) return true;
    for (uint32_t i = range.first; i < range.last && !is(i, "="); ++i)
      if (is(i, "constexpr")) return true;
    return false;
  }

  // A word at i begins an expression, not a type: f(x), a[i] = 1, a.x = 1, metal::f(x).
  bool starts_expression(uint32_t i) const {
    static const Words behind_name = {"(", "[", ".", "->", "++", "--"};
    while (is(i + 1, "::")) i += 2;
    if (is(i + 1, "<")) {
      const uint32_t after = unit_.behind_angles(i + 1, end_);
      return after > i + 1 && is(after, "(");
    }
    return one_of(i + 1, behind_name);
  }

  bool read_assignment(BodyStatement& one) const {
    uint32_t i = one.tokens.first;
    const uint32_t last = one.tokens.last - 1;
    const bool before = is(i, "++") || is(i, "--");
    if (before) ++i;
    if (i >= last || !is_word(token(i))) return false;
    const bool steps =
        before ? i + 1 == last : i + 2 == last && (is(i + 1, "++") || is(i + 1, "--"));
    if (!steps && (before || i + 2 >= last || !is_assigning(token(i + 1)))) return false;
    one.kind = BodyStatement::Kind::assignment;
    one.target = i;
    if (!steps) one.value = {i + 2, last};
    return true;
  }

  uint32_t behind_qualifiers(uint32_t i) const {
    static const Words words = {"const", "thread", "device", "constant", "threadgroup", "typename"};
    while (one_of(i, words)) ++i;
    return i;
  }

  uint32_t behind_type(uint32_t i) const {
    static const Words pieces = {"unsigned", "signed", "int", "long", "short", "char"};
    if (one_of(i, pieces)) {
      while (one_of(i, pieces)) ++i;
      return i;
    }
    if (i >= end_ || !is_word(token(i))) return 0;
    while (is(i + 1, "::") && i + 2 < end_ && is_word(token(i + 2))) i += 2;
    if (!is(i + 1, "<")) return i + 1;
    const uint32_t after = unit_.behind_angles(i + 1, end_);
    return after > i + 1 ? after : 0;
  }

  bool read_declaration(BodyStatement& one) const {
    const uint32_t first = behind_qualifiers(one.tokens.first);
    const uint32_t last = behind_type(first);
    if (last == 0) return false;
    one.kind = BodyStatement::Kind::declaration;
    const Range parts = {behind_qualifiers(last), one.tokens.last - 1};
    if (parts.empty()) return false;
    for (const Range& part : split_list(unit_, parts)) {
      Local local;
      local.type = {first, last};
      if (!read_declarator(part, local)) return false;
      one.locals.push_back(std::move(local));
    }
    return true;
  }

  bool read_declarator(Range part, Local& local) const {
    uint32_t i = behind_qualifiers(part.first);
    for (; is(i, "*"); i = behind_qualifiers(i + 1)) local.pointer = true;
    if (i >= part.last || !is_word(token(i))) return false;
    local.name = std::string(token(i).text);
    local.name_at = i;
    local.bounds = {++i, i};
    for (; i < part.last && is(i, "["); i = local.bounds.last)
      local.bounds.last = unit_.partner[i] + 1;
    local.value = {i, i};
    if (i == part.last) return true;
    if (is(i, "=")) {
      local.value = {i + 1, part.last};
      return i + 1 < part.last;
    }
    local.value = {i + 1, part.last - 1};
    return (is(i, "(") || is(i, "{")) && unit_.partner[i] + 1 == part.last;
  }

  const Unit& unit_;
  const std::set<uint32_t>& variables_;
  uint32_t end_;
  uint32_t at_;
};

}  // namespace

bool is_assigning(const Token& token) {
  static const Words marks = {
      "=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>=", "++", "--"};
  return marks.count(token.text) > 0;
}

std::optional<std::vector<BodyStatement>> read_body(const Unit& unit, const Function& function,
                                                    const std::set<uint32_t>& variables) {
  const Range inside = {function.body.first + 1, function.body.last - 1};
  return BodyReader(unit, inside, variables).run();
}

}  // namespace mlx_kd::msl
