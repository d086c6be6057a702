#include <array>
#include <cstdlib>

#include "mlx_kd/archive/run/record_json.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/spec/count.h"
#include "mlx_kd/spec/protocol_name.h"

namespace mlx_kd::archive {
namespace {

using base::Json;

constexpr std::array<const char*, 15> kKnown = {
    "schema_version", "created_at",        "op_name",       "seed",   "budget", "dtype",
    "shape_suite",    "runtime",           "sizes",         "device", "target", "protocol",
    "options",        "protocol_settings", "mlx_kd_version"};

// An object, in which the members named are texts where they are there. What reads a run asks for
// them as such.
Json object_of_texts(const Json& value, const char* key, std::initializer_list<const char*> names) {
  const Json object = value.value(key, Json::object());
  if (!object.is_object()) base::misuse("archive", std::string("'") + key + "' is not an object");
  for (const char* name : names)
    if (object.contains(name) && !object[name].is_string())
      base::misuse("archive", std::string("'") + name + "' of '" + key + "' is not a text");
  return object;
}

RunMeta take_fields(const Json& value) {
  RunMeta meta;
  meta.op_name = value.at("op_name").get<std::string>();
  meta.seed = spec::count_of(value.at("seed"));
  meta.budget = spec::count_of(value.at("budget"));
  meta.dtype = value.at("dtype").get<std::string>();
  meta.shape_suite = value.value("shape_suite", "");
  for (const Json& size : value.value("sizes", Json::array()))
    meta.sizes.push_back(spec::Dims::parse(size.get<std::string>()));
  meta.device = value.value("device", "");
  meta.runtime = object_of_texts(value, "runtime", {"mlx_version", "device_arch", "device_name"});
  meta.target = object_of_texts(value, "target", {});
  meta.protocol = spec::protocol_name(value.value("protocol", "v1"));
  meta.protocol_settings = object_of_texts(value, "protocol_settings", {});
  object_of_texts(meta.protocol_settings, "proof", {});
  meta.options = object_of_texts(value, "options", {});
  meta.created_at = value.value("created_at", "");
  meta.mlx_kd_version = value.value("mlx_kd_version", "");
  meta.extra = value;
  for (const char* key : kKnown) meta.extra.erase(key);
  return meta;
}

}  // namespace

base::OrderedJson to_json(const RunMeta& meta) {
  base::OrderedJson sizes = base::OrderedJson::array();
  for (const spec::Dims& size : meta.sizes) sizes.push_back(size.text());
  base::OrderedJson result = {{"schema_version", kRunSchema},
                              {"created_at", meta.created_at},
                              {"mlx_kd_version", meta.mlx_kd_version},
                              {"op_name", meta.op_name},
                              {"seed", meta.seed},
                              {"budget", meta.budget},
                              {"dtype", meta.dtype},
                              {"shape_suite", meta.shape_suite},
                              {"sizes", sizes},
                              {"device", meta.device},
                              {"runtime", meta.runtime},
                              {"target", meta.target},
                              {"protocol", meta.protocol},
                              {"protocol_settings", meta.protocol_settings},
                              {"options", meta.options}};
  for (const auto& [key, value] : meta.extra.items()) result[key] = value;
  return result;
}

RunMeta meta_from_json(const Json& value, const std::string& origin) {
  const auto refuse = [&](const std::string& reason) {
    base::misuse("archive", origin + " does not describe a run (" + reason +
                                "): name a folder that kd run has written");
  };
  if (!value.is_object()) refuse("not an object");
  const Json version = value.value("schema_version", Json("1"));
  const std::string text = version.is_string() ? version.get<std::string>() : version.dump();
  if (std::atoi(text.c_str()) > std::atoi(kRunSchema))
    base::misuse("archive", origin + " has schema " + text + ", this program knows up to " +
                                kRunSchema + ": use a newer mlx-kd");
  try {
    return take_fields(value);
  } catch (const Json::exception& error) {
    refuse(error.what());
  } catch (const base::Error& error) {
    refuse(error.what());
  }
  return {};
}

}  // namespace mlx_kd::archive
