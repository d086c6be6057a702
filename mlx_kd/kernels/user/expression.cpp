// A recursive-descent parser into a tree of operations, one precedence level per entry of kLevels.
// `?:`, && and || evaluate only the side that they need, so that a constraint may guard a division.
#include "mlx_kd/kernels/user/expression.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "mlx_kd/base/error.h"

namespace mlx_kd::kernels::user {

struct Expression::Node {
  enum class Kind { number, name, negative, inverse, binary, choice, call } kind;
  int64_t number = 0;     // the value, or the index of the name
  std::string word = {};  // the operator or the function
  std::vector<std::shared_ptr<const Node>> parts = {};
};

namespace {

using Node = Expression::Node;
using Tree = std::shared_ptr<const Node>;
using Kind = Node::Kind;

constexpr int kMostDepth = 100;

// Weakest first. A longer spelling comes before its beginning.
const std::vector<std::vector<std::string>>& levels() {
  static const std::vector<std::vector<std::string>> all = {
      {"||"}, {"&&"}, {"==", "!="}, {"<=", ">=", "<", ">"}, {"+", "-"}, {"*", "/", "%"}};
  return all;
}

Tree leaf(Kind kind, int64_t number) {
  return std::make_shared<Node>(Node{kind, number});
}

Tree join(Kind kind, const std::string& word, std::vector<Tree> parts) {
  return std::make_shared<Node>(Node{kind, 0, word, std::move(parts)});
}

class ExpressionParser {
 public:
  ExpressionParser(const std::string& text, std::vector<std::string>& names)
      : text_(text), names_(names) {}

  Tree whole() {
    Tree result = choice();
    if (skip_blanks() < text_.size()) refuse("cannot be read here");
    return result;
  }

 private:
  [[noreturn]] void refuse(const std::string& why) const {
    const std::string rest = text_.substr(std::min(at_, text_.size()), 20);
    base::misuse("tune", "expression '" + text_.substr(0, 80) + "' " + why + ", at '" + rest +
                             "': write for example (rows + TG - 1) / TG");
  }

  size_t skip_blanks() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
    return at_;
  }

  bool take(const std::string& word) {
    if (text_.compare(skip_blanks(), word.size(), word) != 0) return false;
    at_ += word.size();
    return true;
  }

  void expect(const std::string& word) {
    if (!take(word)) refuse("lacks '" + word + "'");
  }

  Tree choice() {
    if (++depth_ > kMostDepth) refuse("is nested too deeply");
    Tree condition = level(0);
    if (take("?")) {
      Tree yes = choice();
      expect(":");
      condition = join(Kind::choice, "?", {condition, yes, choice()});
    }
    --depth_;
    return condition;
  }

  Tree level(size_t rank) {
    if (rank == levels().size()) return unary();
    Tree left = level(rank + 1);
    while (true) {
      const auto& words = levels()[rank];
      const auto found = std::find_if(words.begin(), words.end(),
                                      [this](const std::string& one) { return take(one); });
      if (found == words.end()) return left;
      left = join(Kind::binary, *found, {left, level(rank + 1)});
    }
  }

  Tree unary() {
    if (++depth_ > kMostDepth) refuse("is nested too deeply");
    Tree result;
    if (take("-"))
      result = join(Kind::negative, "-", {unary()});
    else if (take("!"))
      result = join(Kind::inverse, "!", {unary()});
    else
      result = operand();
    --depth_;
    return result;
  }

  Tree operand() {
    if (take("(")) {
      Tree inside = choice();
      expect(")");
      return inside;
    }
    const char first = at_ < text_.size() ? text_[at_] : '\0';
    if (std::isdigit(static_cast<unsigned char>(first))) return number();
    if (!std::isalpha(static_cast<unsigned char>(first)) && first != '_')
      refuse("lacks a number or a name");
    const std::string name = word();
    return take("(") ? call(name) : leaf(Kind::name, index_of(name));
  }

  Tree number() {
    int64_t value = 0;
    const auto [end, error] =
        std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (error != std::errc()) refuse("has a number beyond 64 bits");
    at_ = static_cast<size_t>(end - text_.data());
    return leaf(Kind::number, value);
  }

  std::string word() {
    const size_t begin = at_;
    while (at_ < text_.size() &&
           (std::isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '_'))
      ++at_;
    return text_.substr(begin, at_ - begin);
  }

  Tree call(const std::string& name) {
    std::vector<Tree> parts = {choice()};
    while (take(",")) parts.push_back(choice());
    expect(")");
    const bool known = name == "min" || name == "max" || (name == "ceil_div" && parts.size() == 2);
    if (!known) refuse("calls '" + name + "', and there are min, max and ceil_div(a, b)");
    return join(Kind::call, name, std::move(parts));
  }

  int64_t index_of(const std::string& name) {
    const auto found = std::find(names_.begin(), names_.end(), name);
    if (found == names_.end()) names_.push_back(name);
    return std::distance(names_.begin(), std::find(names_.begin(), names_.end(), name));
  }

  const std::string& text_;
  std::vector<std::string>& names_;
  size_t at_ = 0;
  int depth_ = 0;
};

class Evaluation {
 public:
  Evaluation(const Expression& expression, const std::function<int64_t(size_t)>& value_of)
      : expression_(expression), value_of_(value_of) {}

  int64_t value(const Node& node) const {
    switch (node.kind) {
      case Kind::number:
        return node.number;
      case Kind::name:
        return value_of_(static_cast<size_t>(node.number));
      case Kind::negative:
        return apply("-", 0, part(node, 0));
      case Kind::inverse:
        return part(node, 0) == 0;
      case Kind::choice:
        return part(node, 0) != 0 ? part(node, 1) : part(node, 2);
      case Kind::call:
        return call(node);
      default:
        return binary(node);
    }
  }

 private:
  int64_t part(const Node& node, size_t i) const { return value(*node.parts[i]); }

  [[noreturn]] void refuse(const std::string& why) const {
    std::string values;
    for (size_t i = 0; i < expression_.names().size(); ++i)
      values += (values.empty() ? "" : ", ") + expression_.names()[i] + " = " +
                std::to_string(value_of_(i));
    base::misuse("tune", "expression '" + expression_.text() + "' " + why +
                             (values.empty() ? "" : " at " + values) +
                             ": correct it, or exclude these values by a constraint");
  }

  int64_t call(const Node& node) const {
    if (node.word == "ceil_div")
      return apply("/", apply("+", part(node, 0), apply("-", part(node, 1), 1)), part(node, 1));
    int64_t result = part(node, 0);
    for (size_t i = 1; i < node.parts.size(); ++i)
      result =
          node.word == "min" ? std::min(result, part(node, i)) : std::max(result, part(node, i));
    return result;
  }

  int64_t binary(const Node& node) const {
    if (node.word == "&&") return part(node, 0) != 0 && part(node, 1) != 0;
    if (node.word == "||") return part(node, 0) != 0 || part(node, 1) != 0;
    return apply(node.word, part(node, 0), part(node, 1));
  }

  int64_t apply(const std::string& word, int64_t a, int64_t b) const {
    if (word == "==") return a == b;
    if (word == "!=") return a != b;
    if (word == "<") return a < b;
    if (word == ">") return a > b;
    if (word == "<=") return a <= b;
    if (word == ">=") return a >= b;
    int64_t result = 0;
    bool overflows = false;
    if (word == "+") overflows = __builtin_add_overflow(a, b, &result);
    if (word == "-") overflows = __builtin_sub_overflow(a, b, &result);
    if (word == "*") overflows = __builtin_mul_overflow(a, b, &result);
    if (word == "/" || word == "%") {
      if (b == 0) refuse("divides by 0");
      overflows = a == INT64_MIN && b == -1;
      if (!overflows) result = word == "/" ? a / b : a % b;
    }
    if (overflows) refuse("exceeds 64 bits");
    return result;
  }

  const Expression& expression_;
  const std::function<int64_t(size_t)>& value_of_;
};

}  // namespace

Expression::Expression(const std::string& text) : text_(text) {
  root_ = ExpressionParser(text_, names_).whole();
}

int64_t Expression::value(const std::function<int64_t(size_t)>& value_of) const {
  return Evaluation(*this, value_of).value(*root_);
}

int64_t Expression::value(const spec::NamedInts& first, const spec::NamedInts& second) const {
  return value([&](size_t i) {
    const std::string& name = names_[i];
    if (first.has(name)) return first.at(name);
    if (second.has(name)) return second.at(name);
    base::misuse("tune", "expression '" + text_ + "' names '" + name +
                             "', which is neither a size nor a knob: correct it");
  });
}

std::vector<std::string> names_in(const std::string& text) {
  return Expression(text).names();
}

std::vector<Expression> expressions_of(const std::string& text) {
  std::vector<Expression> result;
  std::string inside = text;
  const size_t open = inside.find_first_not_of(" \t"), close = inside.find_last_not_of(" \t");
  if (open == inside.npos) return result;
  inside = inside.substr(open, close - open + 1);
  // Brackets around all of it, "(a, b)", not those of "(a) * (b)".
  int depth = 0;
  size_t closes = 0;
  for (size_t i = 0; i < inside.size() && closes == 0; ++i) {
    depth += inside[i] == '(' ? 1 : inside[i] == ')' ? -1 : 0;
    if (depth == 0) closes = i + 1;
  }
  if (inside.front() == '(' && closes == inside.size())
    inside = inside.substr(1, inside.size() - 2);
  std::string part;
  depth = 0;
  for (const char c : inside + ",") {
    depth += c == '(' ? 1 : c == ')' ? -1 : 0;
    if (c == ',' && depth == 0) {
      if (part.find_first_not_of(" \t") != part.npos || !result.empty()) result.emplace_back(part);
      part.clear();
    } else {
      part += c;
    }
  }
  return result;
}

}  // namespace mlx_kd::kernels::user
