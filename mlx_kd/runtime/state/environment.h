// The settings that environment variables give.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "mlx_kd/runtime/state/settings.h"

namespace mlx_kd::runtime {

// A switch by the first of two names that is set (the second may be nullptr); nullopt where neither
// is. Misuse, naming the variable and its value, where it is neither on nor off.
std::optional<bool> env_switch(const char* name, const char* older_name);

// A text by the first of two names that is set and not empty.
std::optional<std::string> env_value(const char* name, const char* older_name);

// A whole number from 1 on. Misuse, naming the variable, where it is anything else.
int64_t env_count(const char* name, const char* older_name, int64_t otherwise);

// `given` where it says something, else the environment, else the defaults.
Effective effective(const Settings& given);

// The packs that came with this build: every *.json, by name, of the first of the folders
// MLX_KD_SHIPPED_PACKS (a compile definition, parted by ":") that is there. Relative ones start at
// the folder of the program or library that this code is in. Misuse where there is none.
std::vector<std::string> shipped_packs();

}  // namespace mlx_kd::runtime
