// Sizes other than its key's that an entry may serve.
#pragma once

#include <map>
#include <optional>

#include "mlx_kd/packs/entry.h"

namespace mlx_kd::packs {

// `rows_range` and `rows_sampled`; nullopt where there is no range. Misuse if they are not row
// counts, or the range ends before it starts.
std::optional<DimRange> read_rows(const base::Json& raw);

// `ranges` and `sampled`, by dim. Misuse that names the dim if `shape` does not have it, or a
// range or sample is not a size of it.
std::map<std::string, DimRange> read_ranges(const base::Json& raw, const spec::Dims& shape);

// Adds the entry's `rows_range`, `rows_sampled`, `ranges` and `sampled`, those that it has.
void write_ranges(const Entry& entry, base::Json& json);

}  // namespace mlx_kd::packs
