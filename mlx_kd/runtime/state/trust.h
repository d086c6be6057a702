// A pack is code. Reads one that only the user or root can have written.
#pragma once

#include <filesystem>
#include <string>

#include "mlx_kd/runtime/state/settings.h"

namespace mlx_kd::runtime {

// The text of a file, at most packs::kMaxPackBytes.
//
// With Trust::owner every step of the path is opened from the one before it and looked at through
// its descriptor, so that nothing can be exchanged in between: folders and symbolic links belong to
// root or this user, folders cannot be written by group or others unless they are sticky (then
// no user can replace what is another's), and the file is a regular one of root or this user that
// neither group nor others can write. With Trust::anyone it has to be a regular file.
//
// Misuse (room runtime), naming the path and what to do, where that does not hold or there is no
// such file.
std::string trusted_text(const std::filesystem::path& path, Trust trust);

}  // namespace mlx_kd::runtime
