#include "mlx_kd/runtime/launches.h"

#include <algorithm>
#include <cctype>

#include "mlx_kd/base/error.h"

namespace mlx_kd::runtime {
namespace {

constexpr int64_t kMostThreads = 1024;  // of a CPU, and of a GPU's threadgroup
constexpr int64_t kLargest = (int64_t(1) << 31) - 1;

[[noreturn]] void refuse(const std::string& what) {
  base::misuse("runtime", what + ": the entry is damaged, or of a newer mlx-kd");
}

std::string kind_of(const packs::Entry& entry) {
  const auto found = entry.launch_params.find("launch_kind");
  return found != entry.launch_params.end() && found->is_string() ? found->get<std::string>() : "";
}

// A launch setting as a whole number from 1 on.
int64_t positive(const packs::Entry& entry, const char* name, int64_t otherwise) {
  for (const base::Json* from : {&entry.launch_params, &entry.knobs})
    if (const auto found = from->find(name); found != from->end()) {
      if (!found->is_number_integer() || found->get<int64_t>() < 1 ||
          found->get<int64_t>() > kLargest)
        refuse(std::string("its ") + name + " is " + found->dump());
      return found->get<int64_t>();
    }
  return otherwise;
}

int64_t steps(int64_t count, int64_t step) {
  return (count + step - 1) / step;
}

int64_t elements_of(const spec::Op& op, const spec::Dims& dims) {
  return spec::element_count(op.outputs.front().shape(dims));
}

spec::Launch metal_launch(const packs::Entry& entry, const spec::Op& op, const spec::Dims& dims) {
  const int64_t group = positive(entry, "threadgroup_x", 256);
  const std::string kind = kind_of(entry);
  spec::Launch launch;
  if (kind == "rmsnorm_rows_tg" || kind == "rmsnorm_residual_rows_tg")
    launch.grid[0] = dims.at("rows") * group;
  else if (kind == "swiglu_flat")
    launch.grid[0] =
        steps(dims.at("N"), positive(entry, "vec_width", 1) * positive(entry, "unroll", 1));
  else if (kind == "rope_decode_pos")
    launch.grid[0] = dims.at("B") * (dims.at("H_Q") + 1) * dims.at("D_OUT");
  else
    launch.grid[0] = positive(entry, "grid_x", elements_of(op, dims));
  launch.group[0] = std::min(group, launch.grid[0]);
  return launch;
}

const spec::Variant& variant_of(const packs::Entry& entry, const spec::Op& op) {
  const std::string kind = kind_of(entry);
  for (const spec::Variant& variant : op.variants)
    if (variant.language == entry.language && variant.launch_kind == kind &&
        variant.func_name == entry.func_name)
      return variant;
  refuse("this build has no " + entry.language + " kernel of '" + op.name +
         "' that is launched as '" + kind + "' and called " + entry.func_name);
}

// What a launch may divide by. Settings below 1 are left out, so that one which needs them fails.
spec::Setting launch_setting(const packs::Entry& entry) {
  spec::Setting setting;
  const spec::Setting knobs = setting_of(entry);
  for (const auto& [name, value] : knobs.items())
    if (value >= 1 && value <= kLargest) setting.set(name, value);
  for (const auto& [name, value] : entry.launch_params.items())
    if (name != "launch_kind") setting.set(name, positive(entry, name.c_str(), 1));
  return setting;
}

void check(const spec::Launch& launch, const std::string& language) {
  const auto wrong = [](int64_t count) { return count < 1 || count > kLargest; };
  for (const auto& counts : {launch.grid, launch.group})
    if (std::any_of(counts.begin(), counts.end(), wrong))
      refuse("its launch has counts outside 1 to 2^31 - 1");
  double threads = launch.threads;
  if (language != "cpp") {
    threads = 1;
    for (const int64_t count : launch.group) threads *= static_cast<double>(count);
  }
  if (threads < 1 || threads > kMostThreads)
    refuse("its launch has more than " + std::to_string(kMostThreads) + " threads, or none");
}

}  // namespace

spec::Launch launch_of(const packs::Entry& entry, const spec::Op& op, const spec::Dims& dims) {
  const spec::Launch launch = entry.language == "metal"
                                  ? metal_launch(entry, op, dims)
                                  : variant_of(entry, op).launch(dims, launch_setting(entry));
  check(launch, entry.language);
  return launch;
}

spec::Setting setting_of(const packs::Entry& entry) {
  const spec::Setting setting = spec::Setting::from_json(entry.knobs);
  for (const auto& [name, value] : setting.items()) {
    const bool macro = !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
      return std::isalnum(c) || c == '_';
    });
    if (!macro || std::isdigit(static_cast<unsigned char>(name[0])))
      refuse("its knob '" + name.substr(0, 40) + "' has a name that no macro has");
  }
  return setting;
}

}  // namespace mlx_kd::runtime
