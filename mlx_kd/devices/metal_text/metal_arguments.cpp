#include "mlx_kd/devices/metal_text/metal_arguments.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "mlx_kd/base/error.h"
#include "mlx_kd/spec/op/limits.h"

namespace mlx_kd::devices {
namespace {

using Holds = MetalArgument::Holds;

template <class T>
bool store_integer(double value, Number& bytes) {
  constexpr double kEnd = 9007199254740992.0;  // of what a double holds exactly
  if (value != value || value < -kEnd || value > kEnd) return false;
  const auto whole = static_cast<int64_t>(value);
  if (static_cast<double>(whole) != value || !std::in_range<T>(whole)) return false;
  const T stored = static_cast<T>(whole);
  std::memcpy(bytes.data(), &stored, sizeof stored);
  return true;
}

bool store_float(double value, Number& bytes) {
  const auto stored = static_cast<float>(value);
  std::memcpy(bytes.data(), &stored, sizeof stored);
  return true;
}

using Store = bool (*)(double, Number&);

// nullptr for a type that numbers are not passed in.
Store store_as(const std::string& type) {
  static const std::map<std::string, Store> stores = {
      {"float", store_float},
      {"int", store_integer<int32_t>},
      {"int32_t", store_integer<int32_t>},
      {"uint", store_integer<uint32_t>},
      {"uint32_t", store_integer<uint32_t>},
      {"long", store_integer<int64_t>},
      {"int64_t", store_integer<int64_t>},
      {"ulong", store_integer<uint64_t>},
      {"uint64_t", store_integer<uint64_t>},
  };
  const auto found = stores.find(type);
  return found == stores.end() ? nullptr : found->second;
}

// Index of the port of that name, or -1.
int port_named(const base::Json& ports, const std::string& name) {
  for (size_t i = 0; i < ports.size(); ++i)
    if (ports[i].at("name") == name) return static_cast<int>(i);
  return -1;
}

// The scratch array of that name, or -1.
int scratch_named(const std::string& name) {
  for (size_t i = 0; i < spec::kMostScratch; ++i)
    if (name == "scratch" + std::to_string(i)) return static_cast<int>(i);
  return -1;
}

// The input whose strides go by that name, or -1.
int strides_named(const base::Json& inputs, const std::string& name) {
  constexpr std::string_view kEnd = "_strides";
  return name.ends_with(kEnd) ? port_named(inputs, name.substr(0, name.size() - kEnd.size())) : -1;
}

// Sets what the buffer holds; false where it is a number, or nothing that there is.
bool find_array(const msl::Binding& binding, const spec::Candidate& candidate,
                MetalArgument& found) {
  const auto take = [&](Holds holds, int port) {
    if (port < 0) return false;
    found.holds = holds;
    found.port = static_cast<size_t>(port);
    return true;
  };
  return take(Holds::output, port_named(candidate.outputs_spec, binding.name)) ||
         take(Holds::input, port_named(candidate.inputs_spec, binding.name)) ||
         take(Holds::scratch, scratch_named(binding.name)) ||
         take(Holds::strides, strides_named(candidate.inputs_spec, binding.name));
}

MetalArgument argument_of(const msl::Binding& binding, const msl::SourceSet& sources,
                          const spec::Candidate& candidate) {
  MetalArgument result{Holds::number,   0, binding.index, binding.name, binding.type,
                       binding.is_const};
  const auto refuse = [&](const std::string& why) {
    msl::refuse(sources, binding.at, "'" + binding.name + "' " + why);
  };
  if (!find_array(binding, candidate, result)) {
    if (!binding.reference || !binding.is_const || !store_as(binding.type))
      refuse("is not an array of op '" + candidate.op_name +
             "': bind a number as constant float&, int&, uint&, int64_t& or ulong&");
  } else if (result.holds == Holds::scratch && binding.reference) {
    refuse("is scratch memory: bind it as a device pointer");
  } else if (result.holds == Holds::strides &&
             (binding.reference || !binding.is_const ||
              !(binding.type == "long" || binding.type == "int64_t"))) {
    refuse("holds strides: bind it as const constant long*");
  }
  return result;
}

bool is_bound(const std::vector<const StageKernel*>& stages, Holds holds, size_t port) {
  return std::any_of(stages.begin(), stages.end(), [&](const StageKernel* stage) {
    const auto& all = stage->arguments;
    return std::any_of(all.begin(), all.end(), [&](const MetalArgument& one) {
      return one.holds == holds && one.port == port;
    });
  });
}

[[noreturn]] void fail_unbound(const base::Json& port, const spec::Candidate& candidate) {
  base::fail("devices", "no kernel of '" + candidate.op_name + "' has a buffer for '" +
                            port.value("name", "?") + "': bind it in one of the stages");
}

double number_named(const std::string& name, const Call& call, const spec::Stage& stage) {
  if (call.dims.has(name)) return static_cast<double>(call.dims.at(name));
  for (size_t i = 0; i < call.scalar_names.size() && i < call.scalars.size(); ++i)
    if (call.scalar_names[i] == name) return call.scalars[i];
  if (name == "stage_index") return static_cast<double>(stage.index);
  base::fail("devices", "the kernel takes '" + name + "', which this call does not give");
}

}  // namespace

std::vector<MetalArgument> metal_arguments(const msl::Kernel& kernel, const msl::SourceSet& sources,
                                           const spec::Candidate& candidate) {
  std::vector<MetalArgument> result;
  for (const msl::Binding& binding : kernel.buffers)
    result.push_back(argument_of(binding, sources, candidate));
  return result;
}

std::vector<StageKernel> stage_kernels(const TranslatedText& text,
                                       const spec::Candidate& candidate) {
  text.kernel(candidate.func_name);
  std::vector<StageKernel> result;
  for (const msl::Kernel& one : text.made.kernels)
    result.push_back({one, metal_arguments(one, *text.unit.sources, candidate)});
  return result;
}

std::vector<const StageKernel*> kernels_of(const std::vector<StageKernel>& kernels,
                                           const Call& call, const spec::Candidate& candidate) {
  std::vector<const StageKernel*> result;
  for (const spec::Stage& stage : call.stages) {
    const auto found = std::find_if(kernels.begin(), kernels.end(), [&](const StageKernel& one) {
      return one.kernel.name == stage.func_name;
    });
    if (found == kernels.end())
      base::fail("devices", "the text of '" + candidate.op_name + "' has no kernel '" +
                                stage.func_name + "', which a stage calls: add it");
    result.push_back(&*found);
  }
  std::vector<bool> updated(candidate.inputs_spec.size(), false);
  for (size_t i = 0; i < candidate.outputs_spec.size(); ++i) {
    const int input = call.updated_input(i);
    if (input >= 0) updated.at(static_cast<size_t>(input)) = true;
    if (!is_bound(result, Holds::output, i) &&
        (input < 0 || !is_bound(result, Holds::input, static_cast<size_t>(input))))
      fail_unbound(candidate.outputs_spec[i], candidate);
  }
  for (size_t i = 0; i < updated.size(); ++i)
    if (!updated[i] && call.inputs[i].elements() > 0 && !is_bound(result, Holds::input, i))
      fail_unbound(candidate.inputs_spec[i], candidate);
  return result;
}

std::vector<Number> metal_numbers(const std::vector<MetalArgument>& arguments, const Call& call,
                                  const spec::Stage& stage) {
  std::vector<Number> result;
  for (const MetalArgument& one : arguments) {
    if (one.holds != Holds::number) continue;
    const double value = number_named(one.name, call, stage);
    Number& bytes = result.emplace_back();
    if (!store_as(one.type)(value, bytes))
      base::fail("devices", "'" + one.name + "' is " + std::to_string(value) +
                                ", which does not fit its type " + one.type);
  }
  return result;
}

size_t number_bytes(const MetalArgument& number) {
  const auto has = [&](const char* part) { return number.type.find(part) != std::string::npos; };
  return has("long") || has("64") ? 8 : 4;
}

std::vector<int64_t> axis_strides(const spec::ArraySpec& array) {
  return array.strides.empty() ? spec::row_major_strides(array.shape) : array.strides;
}

}  // namespace mlx_kd::devices
