// From files to the table of pins.
#pragma once

#include <memory>

#include "mlx_kd/runtime/pins/table.h"
#include "mlx_kd/runtime/state/settings.h"

namespace mlx_kd::runtime {

// Reads the files of `wanted` (finding the shipped ones, which it adds to wanted.files) and matches
// their entries with this process. Misuse where one is missing, not to be trusted or no pack. Says
// once on stderr where nothing of a pack can be used here, or it is of schema 1.
std::shared_ptr<const Table> load_table(Effective& wanted);

}  // namespace mlx_kd::runtime
