#include "mlx_kd/spec/op/model_config.h"

#include <algorithm>

#include "mlx_kd/base/error.h"

namespace mlx_kd::spec {
namespace {

using base::Json;

// The last one holds a text_config of its own.
constexpr const char* kLanguageParts[] = {"text_config", "llm_config", "language_config",
                                          "thinker_config"};

const Json* find_in(const Json& object, const std::string& field) {
  const auto found = object.find(field);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::string shown(const Json& value) {
  const std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  return text.size() > 40 ? text.substr(0, 40) + "..." : text;
}

bool is_size(const Json& value, int64_t least) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t(ModelConfig::kLargest))
    return false;
  return value.get<int64_t>() >= least;
}

bool are_equal(const Json& list) {
  return list.is_array() && !list.empty() &&
         std::all_of(list.begin(), list.end(), [&](const Json& item) { return item == list[0]; });
}

}  // namespace

ModelConfig::ModelConfig(Json config, std::string origin) : origin_(std::move(origin)) {
  if (!config.is_object())
    base::misuse("spec", origin_ +
                             " is not a model's config: it must hold an object with fields such "
                             "as hidden_size");
  // The innermost language part; an empty object where there is none.
  const Json* part = nullptr;
  for (const Json* inner = &config; inner;) {
    const Json* const outer = inner;
    inner = nullptr;
    for (const char* name : kLanguageParts)
      if (const auto found = outer->find(name); found != outer->end() && found->is_object()) {
        part = inner = &*found;
        break;
      }
  }
  language_ = part ? *part : Json::object();
  whole_ = std::move(config);
}

const Json* ModelConfig::find(const std::string& field) const {
  const Json* found = find_in(language_, field);
  return found ? found : find_in(whole_, field);
}

std::optional<int64_t> ModelConfig::integer_from(int64_t least, const std::string& field) const {
  const Json* value = find(field);
  if (!value) return std::nullopt;
  if (are_equal(*value)) value = &value->front();
  if (!is_size(*value, least))
    base::misuse("spec", origin_ + ": '" + field + "' is " + shown(*value) +
                             ": it must be an integer from " + std::to_string(least) + " to 2^31");
  return value->get<int64_t>();
}

std::optional<int64_t> ModelConfig::integer(const std::string& field) const {
  return integer_from(1, field);
}

int64_t ModelConfig::count(const std::string& field) const {
  return integer_from(0, field).value_or(0);
}

int64_t ModelConfig::integer_or(const std::string& field, int64_t otherwise) const {
  return integer(field).value_or(otherwise);
}

int64_t ModelConfig::first_of(const std::vector<std::string>& fields,
                              const std::string& what) const {
  for (const std::string& field : fields)
    if (const auto value = integer(field)) return *value;
  base::misuse("spec", origin_ + " lacks " + base::list_of(fields) + ", " + what +
                           ": add it, or give kd run the sizes with --shapes");
}

bool ModelConfig::flag(const std::string& field) const {
  const Json* value = find(field);
  return value && value->is_boolean() && value->get<bool>();
}

std::optional<ModelConfig> ModelConfig::part(const std::string& field) const {
  const Json* value = find(field);
  if (!value || !value->is_object()) return std::nullopt;
  return ModelConfig(*value, origin_ + ": " + field);
}

std::vector<std::string> ModelConfig::texts(const std::string& field) const {
  const Json* value = find(field);
  std::vector<std::string> result;
  if (!value || !value->is_array()) return result;
  for (const Json& item : *value)
    if (item.is_string()) result.push_back(item.get<std::string>());
  return result;
}

std::vector<std::string> ModelConfig::fields() const {
  std::vector<std::string> names;
  for (const Json* object : {&language_, &whole_})
    for (const auto& [name, value] : object->items())
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  return names;
}

std::string ModelConfig::text(const std::string& field) const {
  const Json* value = find(field);
  return value && value->is_string() ? value->get<std::string>() : "";
}

bool ModelConfig::is_type(const std::string& part) const {
  for (const Json* object : {&language_, &whole_})
    if (const Json* type = find_in(*object, "model_type"); type && type->is_string())
      if (type->get<std::string>().find(part) != std::string::npos) return true;
  return false;
}

}  // namespace mlx_kd::spec
