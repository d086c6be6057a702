#include "mlx_kd/devices/metal/metal_program.h"

#include <cstring>

#include "mlx/ops.h"
#include "mlx/transforms.h"
#include "mlx_kd/devices/host/check_arrays.h"
#include "mlx_kd/devices/host/mlx_types.h"
#include "mlx_kd/devices/metal/stage_chain.h"
#include "mlx_kd/msl/bodies/kernel_body.h"

namespace mlx_kd::devices::metal {
namespace {

namespace mx = mlx::core;

using Arrays = std::vector<mx::array>;

std::vector<std::string> names_of(const base::Json& ports) {
  std::vector<std::string> names;
  for (const base::Json& port : ports) names.push_back(port.at("name").get<std::string>());
  return names;
}

// The host's memory as an array with the strides of the call.
mx::array array_over(const void* memory, const spec::ArraySpec& array, const mx::Stream& stream) {
  const auto wrap = [&](const mx::Shape& shape) {
    return mx::array(const_cast<void*>(memory), shape, mlx_dtype(array.type), [](void*) {});
  };
  if (array.strides.empty() || array.elements() == 0) return wrap(mlx_shape(array.shape));
  int64_t last = 0;
  for (size_t i = 0; i < array.shape.size(); ++i) last += (array.shape[i] - 1) * array.strides[i];
  const mx::array view =
      mx::as_strided(wrap(mlx_shape({last + 1})), mlx_shape(array.shape),
                     mx::Strides(array.strides.begin(), array.strides.end()), 0, stream);
  mx::eval(view);  // so that its strides are known
  return view;
}

// MLX passes a body the shapes that arrays have; it was written for those of inputs_spec.
Arrays as_specified(const Arrays& inputs, const base::Json& specified, const mx::Stream& stream) {
  Arrays result;
  for (size_t i = 0; i < inputs.size(); ++i)
    result.push_back(
        mx::reshape(inputs[i], mlx_shape(specified.at(i).at("shape").get<spec::Shape>()), stream));
  return result;
}

}  // namespace

void HostedProgram::launch(const std::vector<const void*>& inputs,
                           const std::vector<void*>& outputs, const Call& call) const {
  Arrays arrays;
  for (size_t i = 0; i < inputs.size(); ++i)
    arrays.push_back(array_over(inputs[i], call.inputs[i], host_->stream()));
  std::vector<spec::Shape> shapes;
  for (const spec::ArraySpec& output : call.outputs) shapes.push_back(output.shape);
  Arrays results = this->call(arrays, shapes, call);
  mx::eval(results);
  for (size_t i = 0; i < outputs.size(); ++i)
    if (results[i].nbytes() > 0)
      std::memcpy(outputs[i], results[i].data<void>(), results[i].nbytes());
}

Arrays BodyProgram::call(const Arrays& inputs, const std::vector<spec::Shape>& output_shapes,
                         const Call& call) const {
  check_arrays(candidate().op_name, inputs, output_shapes.size(), call);
  const mx::Stream stream = host().stream();
  const auto kernel = host().metal_kernel(
      candidate().func_name, names_of(candidate().inputs_spec), names_of(candidate().outputs_spec),
      candidate().source, std::string(msl::first_version_helpers()), true, false, {});
  return kernel(
      reads_shapes(candidate()) ? as_specified(inputs, candidate().inputs_spec, stream) : inputs,
      mlx_shapes(output_shapes), output_types(call), threads3(call.launch().grid),
      threads3(call.launch().group), {{"T", mlx_dtype(candidate().dtype)}}, std::nullopt, false,
      stream);
}

MetalProgram::MetalProgram(std::shared_ptr<const MetalHost> host, const spec::Candidate& candidate)
    : HostedProgram(std::move(host), candidate),
      text_(translate_text(metal_text(candidate), msl::Target::cpp)),
      kernels_(stage_kernels(text_, candidate)) {}

Arrays MetalProgram::call(const Arrays& inputs, const std::vector<spec::Shape>& output_shapes,
                          const Call& call) const {
  check_arrays(candidate().op_name, inputs, output_shapes.size(), call);
  StageChain chain(host(), text_.unit, candidate(), inputs, mlx_shapes(output_shapes), call, made_);
  const auto kernels = kernels_of(kernels_, call, candidate());
  chain.note_writers(kernels);
  for (size_t i = 0; i < kernels.size(); ++i) chain.run(*kernels[i], call.stages[i]);
  return chain.results();
}

}  // namespace mlx_kd::devices::metal
