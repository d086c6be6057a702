#include "mlx_kd/devices/metal_text/metal_source.h"

#include <cstring>
#include <limits>
#include <map>

#include "mlx_kd/base/error.h"
#include "mlx_kd/msl/bodies/body_form.h"

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

MetalArgument argument_of(const msl::Binding& binding, const msl::SourceSet& sources,
                          const spec::Candidate& candidate) {
  MetalArgument result{Holds::number, 0, binding.index, binding.name, binding.type};
  const int input = port_named(candidate.inputs_spec, binding.name);
  const int output = port_named(candidate.outputs_spec, binding.name);
  if (input >= 0 || output >= 0) {
    result.holds = output >= 0 ? Holds::output : Holds::input;
    result.port = static_cast<size_t>(output >= 0 ? output : input);
    if (output >= 0 && binding.is_const)
      msl::refuse(sources, binding.at, "output '" + binding.name + "' is bound as const");
  } else if (!binding.reference || !binding.is_const || !store_as(binding.type)) {
    msl::refuse(sources, binding.at,
                "'" + binding.name + "' is no array of op '" + candidate.op_name +
                    "': bind a number as constant float&, int&, uint&, int64_t& or ulong&");
  }
  return result;
}

std::vector<msl::BodyArray> body_arrays(const base::Json& ports) {
  std::vector<msl::BodyArray> result;
  for (const base::Json& port : ports) {
    msl::BodyArray array{port.at("name").get<std::string>(), port.at("dtype").get<std::string>()};
    array.shape = port.at("shape").get<std::vector<int64_t>>();
    array.ndim = static_cast<int>(array.shape.size());
    array.size = static_cast<size_t>(spec::element_count(array.shape));
    result.push_back(std::move(array));
  }
  return result;
}

void check_all_bound(const std::vector<MetalArgument>& arguments, const msl::Kernel& kernel,
                     const msl::SourceSet& sources, const spec::Candidate& candidate) {
  for (const base::Json* ports : {&candidate.inputs_spec, &candidate.outputs_spec})
    for (const base::Json& port : *ports) {
      bool bound = false;
      for (const MetalArgument& one : arguments) bound = bound || port.at("name") == one.name;
      if (!bound)
        msl::refuse(sources, kernel.at,
                    "kernel '" + kernel.name + "' has no buffer for '" +
                        port.at("name").get<std::string>() + "' of op '" + candidate.op_name + "'");
    }
}

}  // namespace

bool is_body(const spec::Candidate& candidate) {
  const base::Json kind = candidate.launch_params.value("launch_kind", base::Json());
  return !kind.is_string() || kind.get<std::string>().rfind("metal_", 0) != 0;
}

bool reads_shapes(const spec::Candidate& candidate) {
  if (candidate.language != "metal" || !is_body(candidate)) return false;
  for (const base::Json& port : candidate.inputs_spec) {
    const base::Json name = port.is_object() ? port.value("name", base::Json()) : base::Json();
    if (!name.is_string()) continue;
    for (const char* what : {"_shape", "_strides", "_ndim"})
      if (candidate.source.find(name.get<std::string>() + what) != std::string::npos) return true;
  }
  return false;
}

MetalText metal_text(const spec::Candidate& candidate) {
  if (!is_body(candidate))
    return {metal_file(candidate), candidate.source, metal_options(candidate)};
  msl::BodyKernel kernel;
  kernel.name = candidate.func_name;
  kernel.source = candidate.source;
  kernel.header = "#include <kk_utils>";
  kernel.inputs = body_arrays(candidate.inputs_spec);
  kernel.outputs = body_arrays(candidate.outputs_spec);
  kernel.templates = {{"T", "dtype", spec::name_of(candidate.dtype)}};
  kernel.fixed_shapes = true;
  msl::BodyForm form = msl::whole_source(kernel);
  MetalText result{candidate.func_name + ".metal", std::move(form.text), {}};
  result.options.texts = std::move(form.texts);
  return result;
}

std::string metal_file(const spec::Candidate& candidate) {
  return candidate.op_name + ".metal";
}

msl::PreprocessOptions metal_options(const spec::Candidate& candidate) {
  msl::PreprocessOptions options;
  options.defines["KD_DTYPE"] = std::to_string(static_cast<int>(candidate.dtype));
  for (const auto& [name, value] : candidate.knobs.items())
    if (!candidate.launch_params.contains(name)) options.defines[name] = std::to_string(value);
  return options;
}

std::vector<MetalArgument> metal_arguments(const msl::Kernel& kernel, const msl::SourceSet& sources,
                                           const spec::Candidate& candidate) {
  std::vector<MetalArgument> result;
  for (const msl::Binding& binding : kernel.buffers)
    result.push_back(argument_of(binding, sources, candidate));
  check_all_bound(result, kernel, sources, candidate);
  return result;
}

namespace {

double number_named(const std::string& name, const Call& call) {
  if (call.dims.has(name)) return static_cast<double>(call.dims.at(name));
  for (size_t i = 0; i < call.scalar_names.size() && i < call.scalars.size(); ++i)
    if (call.scalar_names[i] == name) return call.scalars[i];
  base::fail("devices", "the kernel takes '" + name + "', which this call does not give");
}

}  // namespace

std::vector<Number> metal_numbers(const std::vector<MetalArgument>& arguments, const Call& call) {
  std::vector<Number> result;
  for (const MetalArgument& one : arguments) {
    if (one.holds != Holds::number) continue;
    const double value = number_named(one.name, call);
    Number& bytes = result.emplace_back();
    if (!store_as(one.type)(value, bytes))
      base::fail("devices", "'" + one.name + "' is " + std::to_string(value) +
                                ", which does not fit its type " + one.type);
  }
  return result;
}

}  // namespace mlx_kd::devices
