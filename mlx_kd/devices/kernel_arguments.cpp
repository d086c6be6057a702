#include "mlx_kd/devices/kernel_arguments.h"

#include <algorithm>

namespace mlx_kd::devices {
namespace {

std::string macro(const std::string& name, int64_t value) {
  return name + "=" + std::to_string(value);
}

}  // namespace

Strides strides_of(const spec::ArraySpec& array) {
  const std::vector<int64_t> all =
      array.strides.empty() ? spec::row_major_strides(array.shape) : array.strides;
  Strides result = {};
  const size_t count = std::min(all.size(), kStrideAxes);
  std::copy(all.end() - static_cast<std::ptrdiff_t>(count), all.end(),
            result.end() - static_cast<std::ptrdiff_t>(count));
  return result;
}

KernelArguments arguments_of(const Call& call) {
  KernelArguments result = {};
  const auto& dims = call.dims.items();
  for (size_t i = 0; i < dims.size(); ++i) result.dims[i] = dims[i].second;
  for (size_t i = 0; i < call.scalars.size(); ++i) result.scalars[i] = call.scalars[i];
  for (size_t i = 0; i < call.inputs.size(); ++i) result.strides[i] = strides_of(call.inputs[i]);
  for (size_t i = 0; i < call.outputs.size(); ++i)
    result.strides[call.inputs.size() + i] = strides_of(call.outputs[i]);
  return result;
}

std::vector<std::string> argument_macros(const spec::Candidate& candidate) {
  std::vector<std::string> macros = {macro("KD_DTYPE", static_cast<int64_t>(candidate.dtype))};
  for (size_t i = 0; i < candidate.dim_names.size(); ++i)
    macros.push_back(macro("KD_DIM_" + candidate.dim_names[i], static_cast<int64_t>(i)));
  for (size_t i = 0; i < candidate.scalar_names.size(); ++i)
    macros.push_back(macro("KD_SCALAR_" + candidate.scalar_names[i], static_cast<int64_t>(i)));
  for (const base::Json* ports : {&candidate.inputs_spec, &candidate.outputs_spec})
    for (const base::Json& port : *ports)
      macros.push_back(
          macro("KD_TYPE_" + port.at("name").get<std::string>(),
                static_cast<int64_t>(spec::parse_dtype(port.at("dtype").get<std::string>()))));
  for (const auto& [name, value] : candidate.knobs.items())
    if (!candidate.launch_params.contains(name)) macros.push_back(macro(name, value));
  return macros;
}

}  // namespace mlx_kd::devices
