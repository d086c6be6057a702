// Whole gzip files in memory.
#pragma once

#include <string>
#include <string_view>

namespace mlx_kd::archive {

bool is_gzip(std::string_view bytes);

// The text that `bytes` holds, gzip members one after another. Misuse (room archive), naming
// origin, if they are damaged or cut short, or hold more than max_bytes, or if this was built
// without zlib.
std::string gunzip(std::string_view bytes, const std::string& origin,
                   size_t max_bytes = size_t{1} << 30);

// The same text gives the same bytes: no name, no time.
std::string gzip(std::string_view text);

}  // namespace mlx_kd::archive
