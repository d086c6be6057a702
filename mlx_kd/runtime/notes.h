// What a program's user is told once, on stderr.
#pragma once

#include <string>

namespace mlx_kd::runtime {

// Prints "[runtime] text" the first time a process gives this text. Thread-safe.
void tell_once(const std::string& text);

}  // namespace mlx_kd::runtime
