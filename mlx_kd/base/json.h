// JSON as the project reads and writes it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace mlx_kd::base {

using Json = nlohmann::json;                 // keys sorted: what is hashed and compared
using OrderedJson = nlohmann::ordered_json;  // keys in order of insertion: what a person reads

// One line, keys sorted, separators "," and ":", ASCII-escaped: the text that Python's
// json.dumps(value, sort_keys=True, separators=(",", ":")) writes, numbers included.
// NaN and infinities are written as null (JSON has none).
std::string canonical_json(const Json& value);

// Parses text that came from `origin` (a path, or what a person typed). Misuse, naming origin and
// byte or key, if it is not JSON, is nested deeper than 64 levels, has a key twice in an object or
// a number beyond double.
Json parse_json(std::string_view text, const std::string& room, const std::string& origin);

}  // namespace mlx_kd::base
