// Metal text -> tokens with their places.
#pragma once

#include <initializer_list>
#include <string_view>
#include <vector>

#include "mlx_kd/msl/text/source.h"

namespace mlx_kd::msl {

enum class Kind : uint8_t { word, number, text, character, punctuation, pragma };

// `text` and `before` (the blanks and comments in front of it) view the SourceSet.
// A pragma token represents a line "#pragma unroll ..." and holds what follows the word pragma.
struct Token {
  Kind kind = Kind::punctuation;
  bool line_start = false;  // the first token of its line
  bool painted = false;     // a macro's name that must not be expanded again
  std::string_view text;
  std::string_view before;
  Position at;

  bool is(std::string_view spelling) const { return text == spelling; }
};

inline bool is_word(const Token& token) {
  return token.kind == Kind::word;
}

// Whether the token is spelled as one of `words`.
inline bool is_any(const Token& token, std::initializer_list<std::string_view> words) {
  for (const std::string_view word : words)
    if (token.is(word)) return true;
  return false;
}

using Tokens = std::vector<Token>;

// All tokens of one file; "[[" and "]]" are single brackets. Misuse for a comment or a string that
// does not end and for a character that Metal does not know.
Tokens lex(const SourceSet& sources, uint32_t file);

// Text joined for comparing and for messages: "const device float*", "vec<T,4>".
std::string spell(const Token* begin, const Token* end);

}  // namespace mlx_kd::msl
