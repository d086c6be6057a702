#include "mlx_kd/runtime/pins/launches.h"

#include <algorithm>
#include <cctype>
#include <optional>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/metal_form.h"

namespace mlx_kd::runtime {
namespace {

constexpr int64_t kMostThreads = 1024;  // of a CPU, and of a GPU's threadgroup
constexpr int64_t kLargest = (int64_t(1) << 31) - 1;

[[noreturn]] void refuse_entry(const std::string& what) {
  base::misuse("runtime", what + ": the entry is damaged, or of a newer mlx-kd");
}

std::string kind_of(const packs::Entry& entry) {
  const auto found = entry.launch_params.find("launch_kind");
  return found != entry.launch_params.end() && found->is_string() ? found->get<std::string>() : "";
}

// A launch setting as a whole number from 1 on; nullopt where there is none.
std::optional<int64_t> positive(const packs::Entry& entry, const std::string& name) {
  for (const base::Json* from : {&entry.launch_params, &entry.knobs})
    if (const auto found = from->find(name); found != from->end()) {
      if (!found->is_number_integer() || *found < 1 || *found > kLargest)
        refuse_entry("its " + name + " is " + found->dump());
      return found->get<int64_t>();
    }
  return std::nullopt;
}

[[noreturn]] void refuse_threads() {
  refuse_entry("its launch has more than " + std::to_string(kMostThreads) + " threads, or none");
}

// With every setting checked, so that no product overflows.
spec::Launch metal_launch(const packs::Entry& entry, const spec::Op& op, const spec::Dims& dims) {
  if (positive(entry, "threadgroup_x").value_or(1) > kMostThreads) refuse_threads();
  base::Json checked = {{"launch_kind", kind_of(entry)}};
  for (const char* name : {"threadgroup_x", "vec_width", "unroll", "grid_x"})
    if (const auto value = positive(entry, name)) checked[name] = *value;
  return kernels::body_launch(checked, dims, spec::element_count(op.inputs.front().shape(dims)));
}

const spec::Variant& variant_of(const packs::Entry& entry, const spec::Op& op) {
  const std::string kind = kind_of(entry);
  for (const spec::Variant& variant : op.variants)
    if (variant.language == entry.language && variant.launch_kind == kind &&
        variant.func_name == entry.func_name)
      return variant;
  refuse_entry("this build has no " + entry.language + " kernel of '" + op.name +
               "' that is launched as '" + kind + "' and called " + entry.func_name);
}

// What a launch may divide by. Settings below 1 are left out, so that one which needs them fails.
spec::Setting launch_setting(const packs::Entry& entry) {
  spec::Setting setting;
  const spec::Setting knobs = setting_of(entry);
  for (const auto& [name, value] : knobs.items())
    if (value >= 1 && value <= kLargest) setting.set(name, value);
  for (const auto& [name, value] : entry.launch_params.items())
    if (name != "launch_kind") setting.set(name, positive(entry, name).value_or(1));
  return setting;
}

void check(const spec::Launch& launch, const std::string& language) {
  const auto wrong = [](int64_t count) { return count < 1 || count > kLargest; };
  for (const auto& counts : {launch.grid, launch.group})
    if (std::any_of(counts.begin(), counts.end(), wrong))
      refuse_entry("its launch has counts outside 1 to 2^31 - 1");
  double threads = launch.threads;
  if (language != "cpp") {
    threads = 1;
    for (const int64_t count : launch.group) threads *= static_cast<double>(count);
  }
  if (threads < 1 || threads > kMostThreads) refuse_threads();
}

}  // namespace

devices::Call call_of(const packs::Entry& entry, const spec::Op& op, spec::Dtype t,
                      const spec::Dims& dims, const std::vector<double>& scalars) {
  devices::Call call =
      spec::is_metal_body(entry.language, entry.launch_params)
          ? devices::make_call(op, t, dims, scalars,
                               {{entry.func_name, metal_launch(entry, op, dims)}})
          : devices::make_call(op, variant_of(entry, op), t, dims, launch_setting(entry), scalars);
  for (const spec::Stage& stage : call.stages) check(stage.launch, entry.language);
  return call;
}

spec::Setting setting_of(const packs::Entry& entry) {
  const spec::Setting setting = spec::Setting::from_json(entry.knobs);
  for (const auto& [name, value] : setting.items()) {
    const bool macro = !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
      return std::isalnum(c) || c == '_';
    });
    if (!macro || std::isdigit(static_cast<unsigned char>(name[0])))
      refuse_entry("its knob '" + name.substr(0, 40) + "' has a name that no macro has");
  }
  return setting;
}

}  // namespace mlx_kd::runtime
