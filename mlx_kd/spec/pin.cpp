#include "mlx_kd/spec/pin.h"

#include "mlx_kd/base/error.h"

namespace mlx_kd::spec {
namespace {

std::string text_field(const base::Json& value, const char* name) {
  if (auto found = value.find(name); found != value.end() && found->is_string())
    return found->get<std::string>();
  base::misuse("spec", std::string("a key has no text field '") + name +
                           "': the file is damaged or not a pack");
}

}  // namespace

base::Json to_json(const PinKey& key) {
  return {{"op_name", key.op_name},
          {"mlx_version", key.mlx_version},
          {"device_arch", key.device_arch},
          {"device_name", key.device_name},
          {"dtype", key.dtype},
          {"shape_signature", key.shape_signature.json()}};
}

PinKey pin_key_from_json(const base::Json& value) {
  if (!value.is_object())
    base::misuse("spec", "a key is not an object: the file is damaged or not a pack");
  PinKey key{text_field(value, "op_name"),     text_field(value, "mlx_version"),
             text_field(value, "device_arch"), text_field(value, "device_name"),
             text_field(value, "dtype"),       {}};
  if (!value.contains("shape_signature"))
    base::misuse("spec", "a key has no 'shape_signature': the file is damaged or not a pack");
  key.shape_signature = Dims::from_json(value.at("shape_signature"));
  return key;
}

}  // namespace mlx_kd::spec
