// Warnings that are logged once per process, on stderr.
#pragma once

#include <string>
#include <string_view>

namespace mlx_kd::base {

// Prints "[room] text" the first time this process passes this room and text. Thread-safe. After
// 1,000 different lines nothing more is printed, so that a program that reloads in a loop cannot
// grow without bound.
void log_once(std::string_view room, const std::string& text);

}  // namespace mlx_kd::base
