// Schema 1, which lists sizes and types a kernel rather than a kernel a pin.
#pragma once

#include <string>

#include "mlx_kd/base/json.h"

namespace mlx_kd::packs {

// {op_name: {shape_signatures: [...], supported_dtypes: [...], ...}} as a list of entries of schema
// 2: one a signature and type. Runtime fields are "unknown"; so is the type where none is listed;
// no signature means an empty one, which matches any shape. Misuse, naming origin, if `ops` is
// something else or opens out to more than kMaxPackBytes.
base::Json open_out(const base::Json& ops, const std::string& origin);

}  // namespace mlx_kd::packs
