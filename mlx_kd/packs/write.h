// The text of a pack that nobody needs any more.
#pragma once

#include <string>

#include "mlx_kd/packs/pack.h"

namespace mlx_kd::packs {

// As write_text. Each entry is let go of as soon as it is written down: a large merge has little
// more memory than its entries.
std::string write_text_and_free(Pack pack);

}  // namespace mlx_kd::packs
