#include "mlx_kd/msl/text/lexer.h"

#include <array>
#include <cctype>

namespace mlx_kd::msl {
namespace {

bool is_word_start(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) || c == '_';
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_word(char c) {
  return is_word_start(c) || is_digit(c);
}

// Longest first.
constexpr std::array<std::string_view, 26> kMarks = {
    "<<=", ">>=", "->*", "...", "::", "->", "++", "--", "<<", ">>", "<=", ">=", "==",
    "!=",  "&&",  "||",  "+=",  "-=", "*=", "/=", "%=", "&=", "|=", "^=", "##", ".*"};

class Lexer {
 public:
  Lexer(const SourceSet& sources, uint32_t file)
      : sources_(sources), text_(sources.text(file)), at_{file, 1, 1} {}

  Tokens run() {
    Tokens tokens;
    tokens.reserve(text_.size() / 4);
    while (true) {
      const size_t blank = i_;
      bool line_start = skip_blank() || tokens.empty();
      if (i_ >= text_.size()) return tokens;
      Token token;
      token.before = text_.substr(blank, i_ - blank);
      token.line_start = line_start;
      token.at = at_;
      const size_t start = i_;
      token.kind = read();
      token.text = text_.substr(start, i_ - start);
      tokens.push_back(token);
    }
  }

 private:
  char peek(size_t ahead = 0) const { return i_ + ahead < text_.size() ? text_[i_ + ahead] : '\0'; }

  void step() {
    if (text_[i_] == '\n')
      ++at_.line, at_.column = 1;
    else
      ++at_.column;
    ++i_;
  }
  void step(size_t n) {
    for (size_t k = 0; k < n; ++k) step();
  }

  // Blanks, comments and spliced lines; true if an unspliced line ended.
  bool skip_blank() {
    bool ended = false;
    while (i_ < text_.size()) {
      const char c = peek();
      if (c == '\\' && (peek(1) == '\n' || (peek(1) == '\r' && peek(2) == '\n')))
        step(peek(1) == '\n' ? 2 : 3);
      else if (c == '\n')
        ended = true, step();
      else if (c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v')
        step();
      else if (c == '/' && peek(1) == '/')
        while (i_ < text_.size() && peek() != '\n') step();
      else if (c == '/' && peek(1) == '*')
        skip_block();
      else
        break;
    }
    return ended;
  }

  void skip_block() {
    const Position start = at_;
    step(2);
    while (!(peek() == '*' && peek(1) == '/')) {
      if (i_ >= text_.size()) refuse(sources_, start, "this comment has no end: close it with */");
      step();
    }
    step(2);
  }

  Kind read() {
    const char c = peek();
    if (is_word_start(c)) return read_word();
    if (is_digit(c) || (c == '.' && is_digit(peek(1)))) return read_number();
    if (c == '"' || c == '\'') return read_quoted(c);
    for (const std::string_view mark : kMarks)
      if (text_.substr(i_, mark.size()) == mark) return step(mark.size()), Kind::punctuation;
    static constexpr std::string_view single = "[](){}<>;:,.?~!%^&*+=|/-#@";
    if (single.find(c) == std::string_view::npos)
      refuse(sources_, at_, "a character that Metal does not know");
    step();
    return Kind::punctuation;
  }

  Kind read_word() {
    while (is_word(peek())) step();
    return Kind::word;
  }

  // A preprocessing number: digits, letters, dots, signs after an exponent.
  Kind read_number() {
    const bool hex = peek() == '0' && (peek(1) == 'x' || peek(1) == 'X');
    while (is_word(peek()) || peek() == '.' || (peek() == '\'' && is_word(peek(1)))) {
      const char c = static_cast<char>(std::tolower(static_cast<unsigned char>(peek())));
      step();
      if ((c == (hex ? 'p' : 'e')) && (peek() == '+' || peek() == '-')) step();
    }
    return Kind::number;
  }

  Kind read_quoted(char quote) {
    const Position start = at_;
    step();
    while (peek() != quote) {
      if (i_ >= text_.size() || peek() == '\n')
        refuse(sources_, start, std::string("this literal has no end: close it with ") + quote);
      if (peek() == '\\' && i_ + 1 < text_.size()) step();
      step();
    }
    step();
    return quote == '"' ? Kind::text : Kind::character;
  }

  const SourceSet& sources_;
  std::string_view text_;
  size_t i_ = 0;
  Position at_;
};

}  // namespace

Tokens lex(const SourceSet& sources, uint32_t file) {
  return Lexer(sources, file).run();
}

std::string spell(const Token* begin, const Token* end) {
  std::string text;
  for (const Token* token = begin; token < end; ++token) {
    if (!text.empty() && is_word(text.back()) && is_word(token->text.front())) text += ' ';
    text += token->text;
  }
  return text;
}

}  // namespace mlx_kd::msl
