// SHA-256 (FIPS 180-4), small and our own so that nothing has to be linked for it.
#pragma once

#include <string>
#include <string_view>

namespace mlx_kd::base {

// The digest of `bytes` as 64 lower-case hex digits.
std::string sha256_hex(std::string_view bytes);

}  // namespace mlx_kd::base
