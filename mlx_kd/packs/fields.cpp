#include "mlx_kd/packs/fields.h"

#include "mlx_kd/base/error.h"

namespace mlx_kd::packs {
namespace {

using base::Json;

const Json& member_or(const Json& object, const std::string& name, const Json& empty) {
  const Json* value = find(object, name);
  if (!value) return empty;
  if (value->type() != empty.type())
    damaged("'" + name.substr(0, 40) + "' is not an " + empty.type_name());
  return *value;
}

}  // namespace

void damaged(const std::string& what) {
  base::misuse("packs", what + ": the file is damaged or not a pack");
}

const Json* find(const Json& object, const std::string& name) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

const Json& list_in(const Json& object, const std::string& name) {
  static const Json none = Json::array();
  return member_or(object, name, none);
}

const Json& object_in(const Json& object, const std::string& name) {
  static const Json none = Json::object();
  return member_or(object, name, none);
}

std::string text_or(const Json& object, const char* name, const std::string& otherwise) {
  const Json* value = find(object, name);
  if (!value) return otherwise;
  if (!value->is_string()) damaged(std::string("'") + name + "' is not a text");
  return value->get_ref<const std::string&>().empty() ? otherwise : value->get<std::string>();
}

std::string text(const Json& object, const char* name) {
  const std::string value = text_or(object, name, "");
  if (value.empty()) damaged(std::string("there is no '") + name + "'");
  return value;
}

bool flag_in(const Json& object, const char* name) {
  const Json* value = find(object, name);
  if (!value) return false;
  if (!value->is_boolean()) damaged(std::string("'") + name + "' is neither true nor false");
  return value->get<bool>();
}

}  // namespace mlx_kd::packs
