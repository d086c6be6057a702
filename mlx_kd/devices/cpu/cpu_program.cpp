#include "mlx_kd/devices/cpu/cpu_program.h"

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/cpu/kernel_primitive.h"
#include "mlx_kd/devices/host/mlx_types.h"

namespace mlx_kd::devices::cpu {
namespace mx = mlx::core;

void CpuProgram::launch(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
                        const Call& call) const {
  code_->run(inputs.data(), outputs.data(), flatten(call));
}

void CpuProgram::check(const std::vector<mx::array>& inputs, size_t outputs,
                       spec::Dtype output_dtype) const {
  if (inputs.size() != code_->input_count() || outputs != code_->output_count())
    base::fail("devices", "op '" + code_->op_name() + "' takes " +
                              std::to_string(code_->input_count()) + " inputs and gives " +
                              std::to_string(code_->output_count()) + " outputs, not " +
                              std::to_string(inputs.size()) + " and " + std::to_string(outputs));
  const mx::Dtype wanted = mlx_dtype(code_->dtype());
  bool same = output_dtype == code_->dtype();
  for (const mx::array& input : inputs) same = same && input.dtype() == wanted;
  if (!same)
    base::fail("devices", "this kernel of '" + code_->op_name() + "' was compiled for " +
                              spec::name_of(code_->dtype()) + ": give it arrays of that type");
}

std::vector<mx::array> CpuProgram::call(const std::vector<mx::array>& inputs,
                                        const std::vector<spec::Shape>& output_shapes,
                                        spec::Dtype output_dtype, const Call& call) const {
  return graft(inputs, mlx_shapes(output_shapes), output_dtype, call,
               {mx::default_stream(mx::Device::cpu), nullptr});
}

std::vector<mx::array> CpuProgram::graft(const std::vector<mx::array>& inputs,
                                         const std::vector<mx::Shape>& output_shapes,
                                         spec::Dtype output_dtype, const Call& call,
                                         const Graft& graft) const {
  check(inputs, output_shapes.size(), output_dtype);
  const mx::Dtype dtype = mlx_dtype(output_dtype);
  auto primitive =
      std::make_shared<KernelPrimitive>(graft, code_, flatten(call), inputs, output_shapes);
  if (output_shapes.size() == 1)
    return {mx::array(output_shapes[0], dtype, std::move(primitive), inputs)};
  return mx::array::make_arrays(output_shapes, std::vector<mx::Dtype>(output_shapes.size(), dtype),
                                primitive, inputs);
}

}  // namespace mlx_kd::devices::cpu
