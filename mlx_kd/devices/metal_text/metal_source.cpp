#include "mlx_kd/devices/metal_text/metal_source.h"

#include "mlx_kd/msl/bodies/body_form.h"

namespace mlx_kd::devices {
namespace {

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

std::string all_of(const MetalText& text) {
  std::string all = text.text;
  for (const auto* part : {&text.options.texts, &text.options.defines})
    for (const auto& [name, value] : *part) all += '\0' + name + '\0' + value;
  return all;
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
  for (const base::Json* ports : {&candidate.inputs_spec, &candidate.outputs_spec})
    for (const base::Json& port : *ports)
      if (port.contains("name") && port.contains("dtype"))
        options.defines["KD_TYPE_" + port["name"].get<std::string>()] =
            std::to_string(static_cast<int>(spec::parse_dtype(port["dtype"].get<std::string>())));
  return options;
}

}  // namespace mlx_kd::devices
