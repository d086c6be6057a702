// Members of the JSON objects of a pack, and the misuse that names one which is missing or wrong.
#pragma once

#include <string>

#include "mlx_kd/base/json.h"

namespace mlx_kd::packs {

// Misuse: `what`, and that the file is damaged or not a pack.
[[noreturn]] void damaged(const std::string& what);

// The member, or nullptr if it is absent or null.
const base::Json* find(const base::Json& object, const std::string& name);

// The member, or an empty list or object where there is none.
const base::Json& list_in(const base::Json& object, const std::string& name);
const base::Json& object_in(const base::Json& object, const std::string& name);

// The member, or `otherwise` where there is none or it is empty.
std::string text_or(const base::Json& object, const char* name, const std::string& otherwise);

// The member, which is there and not empty.
std::string text(const base::Json& object, const char* name);

// The member, or false where there is none.
bool flag_in(const base::Json& object, const char* name);

}  // namespace mlx_kd::packs
