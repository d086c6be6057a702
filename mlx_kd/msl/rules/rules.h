// The rules of Metal that no C++ compiler enforces for us.
#pragma once

#include <vector>

#include "mlx_kd/msl/parse/unit.h"

namespace mlx_kd::msl {

// All breaches found, in order of place. Sections are those of the Metal Shading Language
// specification, version 4.
std::vector<Diagnostic> check_rules(const Unit& unit);

// check_rules, and misuse with the first breach if there is one.
void require_rules(const Unit& unit);

// Words and types that Metal leaves out of C++.
void check_words(const Unit& unit, std::vector<Diagnostic>& found);
// Kernels and their parameters.
void check_kernels(const Unit& unit, std::vector<Diagnostic>& found);
// Globals, threadgroup variables, function constants.
void check_variables(const Unit& unit, std::vector<Diagnostic>& found);
// Pointers that mix address spaces, where both are named.
void check_spaces(const Unit& unit, std::vector<Diagnostic>& found);

}  // namespace mlx_kd::msl
