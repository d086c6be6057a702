// Settings that come from environment variables.
#pragma once

#include <cstdint>
#include <string>

namespace mlx_kd::devices {

// The text, or `otherwise` where the variable is not set or empty.
std::string env_text(const char* name, const std::string& otherwise = "");

// A whole number of MiB, as bytes. Misuse if it is not a number in 0..1048576.
int64_t env_mib(const char* name, int64_t default_mib);

}  // namespace mlx_kd::devices
