// Whole-number expressions over names: launches, shapes and constraints of a user's kernel.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "mlx_kd/spec/named_ints.h"

namespace mlx_kd::kernels::user {

// + - * / % with the ranks of C, comparisons, ! && ||, a ? b : c, brackets, and the functions
// min(a, b, ...), max(a, b, ...) and ceil_div(a, b). Numbers are signed, of 64 bits; comparisons
// give 0 or 1.
class Expression {
 public:
  // Misuse (room tune) with the text and the place for what is not one.
  explicit Expression(const std::string& text);

  const std::string& text() const { return text_; }
  // Each once, in order of appearance.
  const std::vector<std::string>& names() const { return names_; }

  // `value_of` gives the value of a name. Misuse, with the text and the values, for a division by 0
  // and a result beyond 64 bits.
  int64_t value(const std::function<int64_t(size_t name)>& value_of) const;
  // Of names in `first`, else in `second`. Misuse for one that is in neither.
  int64_t value(const spec::NamedInts& first, const spec::NamedInts& second) const;

  struct Node;

 private:
  std::string text_;
  std::vector<std::string> names_;
  std::shared_ptr<const Node> root_;
};

// The names of an expression, each once.
std::vector<std::string> names_in(const std::string& text);

// "(rows * TG, D)" or "rows * TG, D": split at the commas that are in no brackets of their own.
std::vector<Expression> expressions_of(const std::string& text);

}  // namespace mlx_kd::kernels::user
