// What is read and written where winners of runs go into a pack.
#pragma once

#include <optional>
#include <string>

#include "mlx_kd/packs/pack.h"

namespace mlx_kd::packs {

// As read_winners. Misuse, saying what to do, if there are none.
Pack read_some_winners(const fs::path& path);

// The pack; nullopt if there is no such file.
std::optional<Pack> read_if_there(const fs::path& path);

// The file that is written where `path` is a link: it is written through, not replaced.
fs::path behind_links(const fs::path& path);

}  // namespace mlx_kd::packs
