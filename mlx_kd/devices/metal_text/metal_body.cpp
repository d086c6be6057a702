#include "mlx_kd/devices/metal_text/metal_body.h"

#include "mlx_kd/base/error.h"

namespace mlx_kd::devices {
namespace {

namespace mx = mlx::core;

msl::BodyTemplate template_of(const std::string& name, const mx::fast::TemplateArg& value) {
  if (const auto* type = std::get_if<mx::Dtype>(&value)) return {name, "dtype", dtype_name(*type)};
  if (const auto* number = std::get_if<int>(&value)) return {name, "int", std::to_string(*number)};
  return {name, "bool", std::get<bool>(value) ? "true" : "false"};
}

bool is_word(const std::string& name) {
  for (const char c : name)
    if (!(std::isalnum(static_cast<unsigned char>(c)) || c == '_')) return false;
  return !name.empty();
}

}  // namespace

std::string dtype_name(mx::Dtype dtype) {
  switch (dtype.val()) {
    case mx::Dtype::Val::bool_:
      return "bool";
    case mx::Dtype::Val::uint8:
      return "uint8";
    case mx::Dtype::Val::uint16:
      return "uint16";
    case mx::Dtype::Val::uint32:
      return "uint32";
    case mx::Dtype::Val::uint64:
      return "uint64";
    case mx::Dtype::Val::int8:
      return "int8";
    case mx::Dtype::Val::int16:
      return "int16";
    case mx::Dtype::Val::int32:
      return "int32";
    case mx::Dtype::Val::int64:
      return "int64";
    case mx::Dtype::Val::float16:
      return "float16";
    case mx::Dtype::Val::bfloat16:
      return "bfloat16";
    case mx::Dtype::Val::float32:
      return "float32";
    case mx::Dtype::Val::float64:
      return "float64";
    case mx::Dtype::Val::complex64:
      return "complex64";
  }
  return "an unknown type";
}

MetalBody metal_body(const MetalKernelText& kernel, const MetalKernelCall& call) {
  if (!is_word(kernel.name))
    base::misuse("metal_kernel", "'" + kernel.name.substr(0, 80) +
                                     "' cannot name a kernel: use letters, digits and _");
  msl::BodyKernel body;
  body.name = "custom_kernel_" + kernel.name;
  body.source = kernel.source;
  body.header = kernel.header;
  body.atomic_outputs = kernel.atomic_outputs;
  for (size_t i = 0; i < kernel.input_names.size(); ++i) {
    const mx::array& one = call.inputs[i];
    body.inputs.push_back(
        {kernel.input_names[i], dtype_name(one.dtype()), static_cast<int>(one.ndim()), one.size()});
  }
  for (size_t i = 0; i < kernel.output_names.size(); ++i)
    body.outputs.push_back({kernel.output_names[i], dtype_name(call.output_dtypes[i])});
  for (const auto& [name, value] : call.templates)
    body.templates.push_back(template_of(name, value));
  msl::BodyForm form = msl::whole_source(body);
  MetalBody result{{kernel.name + ".metal", std::move(form.text), {}},
                   std::move(form.kernel),
                   std::move(form.buffers)};
  result.text.options.texts = std::move(form.texts);
  if (kernel.options.math_mode == mx::MathMode::Fast)
    result.text.options.defines["__FAST_MATH__"] = "1";
  return result;
}

}  // namespace mlx_kd::devices
