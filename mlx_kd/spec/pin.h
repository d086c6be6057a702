// What a pinned winner is keyed by.
#pragma once

#include <string>

#include "mlx_kd/spec/named_ints.h"

namespace mlx_kd::spec {

// Exactly the six fields that the first Python version of this system writes.
struct PinKey {
  std::string op_name;
  std::string mlx_version;
  std::string device_arch;
  std::string device_name;
  std::string dtype;     // "float16"
  Dims shape_signature;  // order of names does not matter

  friend bool operator==(const PinKey&, const PinKey&) = default;
};

base::Json to_json(const PinKey& key);
PinKey pin_key_from_json(
    const base::Json& value);  // misuse, naming the field that is missing or of another type

}  // namespace mlx_kd::spec
