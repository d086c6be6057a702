// Entries that carry their compiled object: what `kd bundle` writes. Such a pack is schema 3 with
// one more key an entry, which readers that do not know it keep:
//
//   object   {"sha256": of the bytes, "base64": the bytes, "march": "x86-64-v3" or "native"}
//
// The source stays next to it. The entry's target says which instruction sets the object needs.
#pragma once

#include <string>
#include <string_view>

#include "mlx_kd/packs/entry.h"

namespace mlx_kd::runtime {

// The object's bytes, or "" where the entry carries none. Misuse where they are not base64 or not
// what sha256 says.
std::string object_of(const packs::Entry& entry);

// Puts an object into the entry.
void set_object(packs::Entry& entry, std::string_view object, const std::string& march);

// RFC 4648, with padding, no line breaks.
std::string to_base64(std::string_view bytes);
// Misuse where the text is anything else.
std::string from_base64(std::string_view text);

}  // namespace mlx_kd::runtime
