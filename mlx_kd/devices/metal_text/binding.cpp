#include "mlx_kd/devices/metal_text/binding.h"

#include "mlx_kd/base/error.h"
#include "mlx_kd/msl/parse/constants.h"

namespace mlx_kd::devices {

const msl::Kernel& find_kernel(const msl::Translation& translation, const std::string& name) {
  std::vector<std::string> names;
  for (const msl::Kernel& one : translation.kernels) {
    if (one.name == name || (name.empty() && translation.kernels.size() == 1)) return one;
    names.push_back(one.name);
  }
  if (names.empty()) base::misuse("msl", "the source has no kernel that the host can call");
  base::misuse("msl", "no kernel '" + name + "': the source has " + base::list_of(names));
}

HostArray* array_named(MslRequest& request, const std::string& name) {
  for (HostArray& one : request.arrays)
    if (one.name == name) return &one;
  return nullptr;
}

void check_names(const msl::Kernel& kernel, const MslRequest& request) {
  std::vector<std::string> names;
  for (const msl::Binding& one : kernel.buffers) names.push_back(one.name);
  for (const HostArray& one : request.arrays) {
    bool known = false;
    for (const std::string& name : names) known = known || name == one.name;
    if (!known)
      base::misuse("msl", "kernel '" + kernel.name + "' has no buffer '" + one.name + "': it has " +
                              base::list_of(names));
  }
}

HostArray* array_of(const msl::Kernel& kernel, const msl::Binding& buffer, MslRequest& request,
                    const TranslatedText& text) {
  HostArray* array = array_named(request, buffer.name);
  const std::string& asked = buffer.present_if;
  if (!array && !asked.empty() && msl::is_known_false(text.unit, asked, text.values))
    return nullptr;
  const std::string place = text.unit.sources->describe(buffer.at) + ": ";
  if (!array)
    base::misuse("msl",
                 place + "buffer '" + buffer.name + "' of '" + kernel.name +
                     "' is not given: add --in " + buffer.name + "=... or --out" +
                     (asked.empty() ? "" : ", or a --constant that makes '" + asked + "' false"));
  const bool bytes = buffer.type == "void" || buffer.type == "char" || buffer.type == "uchar" ||
                     buffer.type == "int8_t" || buffer.type == "uint8_t";
  const std::string wanted = bytes && !buffer.reference ? "" : host_type(buffer.type);
  if (!wanted.empty() && wanted != array->type)
    base::misuse("msl", place + "buffer '" + buffer.name + "' holds " + buffer.type + " (" +
                            wanted + ") and is given " + array->type);
  return array;
}

void check_group_bytes(const msl::Kernel& kernel, size_t given, const msl::SourceSet& sources) {
  if (given < kernel.groups.size())
    base::misuse("msl", sources.describe(kernel.groups[given].at) + ": '" +
                            kernel.groups[given].name + "' needs its size: add --group-bytes");
}

void check_constants(const TranslatedText& text, const msl::Kernel& kernel) {
  const msl::Function* function = text.unit.definition_of(kernel.function.substr(
      kernel.function.rfind(':') == std::string::npos ? 0 : kernel.function.rfind(':') + 1));
  if (!function) return;
  for (const msl::Global* one : msl::constants_read(text.unit, *function)) {
    const int index = *one->function_constant;
    if (text.values.count(index) == 0)
      base::misuse("msl", text.unit.sources->describe(one->at) + ": function constant " +
                              std::to_string(index) + " '" + one->name +
                              "' has no value: give --constant " + std::to_string(index) +
                              "=VALUE");
  }
}

void refuse_at(const msl::SourceSet& sources, msl::Position at, const base::Error& error) {
  const std::string text = error.what();
  const size_t room = text.rfind("[", 0) == 0 ? text.find("] ") : text.npos;
  base::misuse("msl",
               sources.describe(at) + ": " + (room == text.npos ? text : text.substr(room + 2)));
}

}  // namespace mlx_kd::devices
