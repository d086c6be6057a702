// One line of `kd doctor`: something looked at, and what to do about it.
#pragma once

#include <string>
#include <vector>

namespace mlx_kd::devices {

enum class Level {
  ok,
  warn,  // works, but slower or with noisier times than it could
  fail,  // something that is needed is missing
};

struct Finding {
  Level level = Level::ok;
  std::string topic;   // "compiler"
  std::string text;    // what was found: "g++ 12.2.0 (/usr/bin/g++)"
  std::string advice;  // what to do; empty where there is nothing to do
};

std::string name_of(Level level);  // "ok", "warn", "fail"

// The machine as a whole (memory, limits, load, MLX), then what each device kind says of itself.
std::vector<Finding> examine_machine();

}  // namespace mlx_kd::devices
