// Function constants whose values are known when a text is compiled: what it says in their place.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "mlx_kd/msl/parse/unit.h"

namespace mlx_kd::msl {

// A stretch of a text and what takes its place.
struct TextEdit {
  size_t begin, end;
  std::string text;
};

// The text of the file that was parsed, from the first token of a range to its last one.
TextEdit stretch_of(const std::string& text, const Unit& unit, Range tokens);
// Whether the text holds them as they are: a macro made neither the first token nor the last.
bool is_written(const std::string& text, const Unit& unit, Range tokens);
std::string edited(std::string text, std::vector<TextEdit> edits);  // that do not overlap

// Values of the function constants, by index.
using ConstantValues = std::map<int, std::string>;

// For a text in which constants with these values take the place of function constants:
// [[function_constant(NAME)]] may not name them, and is_function_constant_defined(NAME) is true. A
// buffer of `kernel` that is switched off at all of the values is no argument any more: it is a
// null pointer or a zero inside. What a macro made stays as it is.
std::vector<TextEdit> edits_for_known_constants(const std::string& text, const Unit& unit,
                                                const Function& kernel,
                                                const std::vector<ConstantValues>& values);

}  // namespace mlx_kd::msl
