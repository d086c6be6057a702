#include "mlx_kd/msl/parse/memory_words.h"

#include <set>

namespace mlx_kd::msl {

Tokens without_memory_words(const Tokens& tokens) {
  static const std::set<std::string_view> numbers = {
      "bool",  "char",  "uchar",  "short",    "ushort",  "int",      "uint",    "long",
      "ulong", "float", "size_t", "uint32_t", "int32_t", "uint64_t", "int64_t", "unsigned"};
  const auto number_near = [&](size_t i) {
    for (size_t k = i + 1; k < tokens.size() && k < i + 5 && is_word(tokens[k]); ++k)
      if (numbers.count(tokens[k].text)) return true;
    for (size_t k = i; k-- > 0 && k + 5 > i && is_word(tokens[k]);)
      if (numbers.count(tokens[k].text)) return true;
    return false;
  };
  Tokens kept;
  kept.reserve(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    const bool scoped = i + 3 < tokens.size() && tokens[i + 1].is("(") && tokens[i + 3].is(")");
    if (tokens[i].is("coherent") && is_word(tokens[i])) {
      if (scoped) i += 3;
      continue;
    }
    if (tokens[i].is("__extension__")) continue;
    if (tokens[i].is("volatile") && is_word(tokens[i]) && !number_near(i)) continue;
    kept.push_back(tokens[i]);
  }
  return kept;
}

}  // namespace mlx_kd::msl
