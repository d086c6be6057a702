// One kernel of a file that holds several: what else of the file can go, and what the kernel uses.
#pragma once

#include <set>
#include <string_view>
#include <vector>

#include "mlx_kd/msl/bodies/known_constants.h"

namespace mlx_kd::msl {

// Edits that blank the file's other kernels, all instantiations but `wanted` (nullptr: all of
// them), and what the kernel does not use of the functions and globals that are about textures.
// Lines stay where they are. What cannot be cut out exactly stays: a use of a macro that
// also makes something else, and a kernel with a conditional directive inside.
std::vector<TextEdit> cuts_around(const std::string& text, const Unit& unit, const Function& kernel,
                                  const Instantiation* wanted);

// The words of the kernel and of the functions and globals that it may call and read. Members of
// structs count as used.
std::set<std::string_view> words_used_by(const Unit& unit, const Function& kernel);

}  // namespace mlx_kd::msl
