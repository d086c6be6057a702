#include "mlx_kd/packs/file/read_first.h"

#include "mlx_kd/base/error.h"
#include "mlx_kd/packs/pack.h"

namespace mlx_kd::packs {
namespace {

using base::Json;

// Takes a list out of the object; `otherwise` where it is absent or empty.
Json take_list(Json& object, const char* name, const Json& otherwise, const std::string& where) {
  const Json list = object.value(name, Json::array());
  if (!list.is_array())
    base::misuse("packs", where + ": '" + name + "' is not a list: the file is damaged");
  object.erase(name);
  return list.empty() ? otherwise : list;
}

void open_op(const std::string& op_name, Json fields, const std::string& where, Json& entries,
             uint64_t& bytes) {
  const Json signatures =
      take_list(fields, "shape_signatures", Json::array({Json::object()}), where);
  const Json dtypes = take_list(fields, "supported_dtypes", Json::array({"unknown"}), where);
  bytes += fields.dump().size() * signatures.size() * dtypes.size();
  if (bytes > kMaxPackBytes)
    base::misuse("packs", where + ": it opens out to more than " + std::to_string(kMaxPackBytes) +
                              " bytes of entries: split the file");
  for (const Json& signature : signatures)
    for (const Json& dtype : dtypes) {
      fields["key"] = {{"op_name", op_name},       {"mlx_version", "unknown"},
                       {"device_arch", "unknown"}, {"device_name", "unknown"},
                       {"dtype", dtype},           {"shape_signature", signature}};
      entries.push_back(fields);
    }
}

}  // namespace

base::Json open_out(const base::Json& ops, const std::string& origin) {
  if (!ops.is_object())
    base::misuse("packs", origin + " has no object 'ops': the file is damaged or not a pack");
  Json entries = Json::array();
  uint64_t bytes = 0;
  for (const auto& [op_name, fields] : ops.items()) {
    const std::string where = origin + ", op '" + op_name.substr(0, 80) + "'";
    if (!fields.is_object())
      base::misuse("packs", where + " is not an object: the file is damaged or not a pack");
    open_op(op_name, fields, where, entries, bytes);
  }
  return entries;
}

}  // namespace mlx_kd::packs
