// Macros and their expansion.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "mlx_kd/msl/text/lexer.h"

namespace mlx_kd::msl {

struct Macro {
  bool function = false;
  bool variadic = false;
  std::vector<std::string_view> parameters;  // with __VA_ARGS__ last, if variadic
  Tokens body;
  bool active = false;  // being expanded now
};

// Keys view the SourceSet.
using Macros = std::unordered_map<std::string_view, Macro>;

// Expands whole lines. One object a translation: it counts what it makes.
class Expander {
 public:
  Expander(SourceSet& sources, Macros& macros) : sources_(sources), macros_(macros) {}

  // `in` with all macros replaced. Misuse for too few or too many arguments, an invocation without
  // an end, and growth without bound.
  Tokens expand(const Tokens& in);

 private:
  struct Frame {
    Tokens tokens;
    size_t next = 0;
    Macro* macro = nullptr;
  };
  using Frames = std::vector<Frame>;

  const Token* peek(Frames& frames);
  void pop(Frames& frames);
  bool open(Frames& frames, const Token& name, Macro& macro);
  std::vector<Tokens> arguments(Frames& frames, const Token& name, const Macro& macro);
  Tokens substitute(const Token& name, const Macro& macro, const std::vector<Tokens>& raw);
  void paste(Tokens& out, const Token& left, const Token& right);
  Token stringize(const Token& name, const Tokens& raw);
  void count(size_t made, Position at);

  SourceSet& sources_;
  Macros& macros_;
  size_t made_ = 0;
  int depth_ = 0;
};

}  // namespace mlx_kd::msl
