// One entry of a file as a value.
#pragma once

#include "mlx_kd/packs/entry.h"

namespace mlx_kd::packs {

// `raw` is an entry of a file of that schema (2 or newer), opened out: see compact.h. Misuse that
// names the field which is missing or wrong.
Entry read_entry(const base::Json& raw, int schema);

}  // namespace mlx_kd::packs
