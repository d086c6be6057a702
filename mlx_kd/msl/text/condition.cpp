#include "mlx_kd/msl/text/condition.h"

#include <array>
#include <cstdlib>

namespace mlx_kd::msl {
namespace {

constexpr int kMaxNesting = 200;

struct Level {
  std::array<std::string_view, 4> marks;
};
// Loosest first.
constexpr std::array<Level, 10> kLevels = {{{{"||"}},
                                            {{"&&"}},
                                            {{"|"}},
                                            {{"^"}},
                                            {{"&"}},
                                            {{"==", "!="}},
                                            {{"<", ">", "<=", ">="}},
                                            {{"<<", ">>"}},
                                            {{"+", "-"}},
                                            {{"*", "/", "%"}}}};

class Evaluator {
 public:
  Evaluator(const SourceSet& sources, const Tokens& tokens, Position line)
      : sources_(sources), tokens_(tokens), line_(line) {}

  bool run() {
    const int64_t value = ternary();
    if (i_ != tokens_.size()) broken();
    return value != 0;
  }

 private:
  [[noreturn]] void broken() {
    const Position at = i_ < tokens_.size() ? tokens_[i_].at : line_;
    refuse(sources_, at, "this is not a condition that a preprocessor can evaluate");
  }

  bool take(std::string_view mark) {
    if (i_ >= tokens_.size() || !tokens_[i_].is(mark)) return false;
    ++i_;
    return true;
  }

  int64_t ternary() {
    if (++depth_ > kMaxNesting) broken();
    int64_t value = binary(0);
    if (take("?")) {
      const int64_t yes = ternary();
      if (!take(":")) broken();
      const int64_t no = ternary();
      value = value ? yes : no;
    }
    --depth_;
    return value;
  }

  int64_t binary(size_t level) {
    if (level == kLevels.size()) return unary();
    int64_t left = binary(level + 1);
    while (true) {
      const std::string_view mark = taken(level);
      if (mark.empty()) return left;
      left = apply(mark, left, binary(level + 1));
    }
  }

  std::string_view taken(size_t level) {
    for (const std::string_view mark : kLevels[level].marks)
      if (!mark.empty() && take(mark)) return mark;
    return {};
  }

  // Wraps around: the preprocessor's integers have no undefined corners here.
  int64_t apply(std::string_view mark, int64_t a, int64_t b) {
    const auto ua = static_cast<uint64_t>(a), ub = static_cast<uint64_t>(b);
    if (mark == "||") return a || b;
    if (mark == "&&") return a && b;
    if (mark == "|") return a | b;
    if (mark == "^") return a ^ b;
    if (mark == "&") return a & b;
    if (mark == "==") return a == b;
    if (mark == "!=") return a != b;
    if (mark == "<") return a < b;
    if (mark == ">") return a > b;
    if (mark == "<=") return a <= b;
    if (mark == ">=") return a >= b;
    if (mark == "<<") return static_cast<int64_t>(ua << (ub & 63));
    if (mark == ">>") return a >> (ub & 63);
    if (mark == "+") return static_cast<int64_t>(ua + ub);
    if (mark == "-") return static_cast<int64_t>(ua - ub);
    if (mark == "*") return static_cast<int64_t>(ua * ub);
    if (b == 0 || (a == INT64_MIN && b == -1)) broken();
    return mark == "/" ? a / b : a % b;
  }

  int64_t unary() {
    if (++depth_ > kMaxNesting) broken();
    int64_t value = 0;
    if (take("!"))
      value = !unary();
    else if (take("-"))
      value = static_cast<int64_t>(-static_cast<uint64_t>(unary()));
    else if (take("+"))
      value = unary();
    else if (take("~"))
      value = ~unary();
    else
      value = primary();
    --depth_;
    return value;
  }

  int64_t primary() {
    if (take("(")) {
      const int64_t value = ternary();
      if (!take(")")) broken();
      return value;
    }
    if (i_ >= tokens_.size()) broken();
    const Token& token = tokens_[i_];
    if (token.kind == Kind::number) return ++i_, number(token);
    if (token.kind != Kind::word) broken();
    ++i_;
    return token.is("true");
  }

  int64_t number(const Token& token) {
    const std::string text(token.text);
    char* end = nullptr;
    const auto value = static_cast<int64_t>(std::strtoull(text.c_str(), &end, 0));
    for (; *end; ++end)
      if (std::string_view("uUlL").find(*end) == std::string_view::npos) --i_, broken();
    return value;
  }

  const SourceSet& sources_;
  const Tokens& tokens_;
  Position line_;
  size_t i_ = 0;
  int depth_ = 0;
};

}  // namespace

bool condition_holds(const SourceSet& sources, const Tokens& expression, Position line) {
  return Evaluator(sources, expression, line).run();
}

}  // namespace mlx_kd::msl
