#include "mlx_kd/devices/cpu/cpu_program.h"

#include "mlx_kd/devices/cpu/kernel_primitive.h"
#include "mlx_kd/devices/host/check_arrays.h"
#include "mlx_kd/devices/host/mlx_types.h"
#include "mlx_kd/devices/host/memory/recycled.h"

namespace mlx_kd::devices::cpu {
namespace mx = mlx::core;

void CpuProgram::launch(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
                        const Call& call) const {
  code_->run_watched(inputs.data(), outputs.data(), code_->flatten(call));
}

std::vector<mx::array> CpuProgram::call(const std::vector<mx::array>& inputs,
                                        const std::vector<spec::Shape>& output_shapes,
                                        const Call& call) const {
  return add_to_graph(inputs, mlx_shapes(output_shapes), call,
                      {mx::default_stream(mx::Device::cpu)});
}

std::vector<mx::array> CpuProgram::add_to_graph(const std::vector<mx::array>& inputs,
                                                const std::vector<mx::Shape>& output_shapes,
                                                const Call& call, const GraphCall& graph) const {
  check_arrays(code_->op_name(), inputs, output_shapes.size(), call);
  auto primitive = std::allocate_shared<KernelPrimitive>(
      RecycledMemory<KernelPrimitive>(), graph, code_, code_->flatten(call), inputs, output_shapes);
  if (output_shapes.size() == 1)
    return {
        mx::array(output_shapes[0], mlx_dtype(call.outputs[0].type), std::move(primitive), inputs)};
  return mx::array::make_arrays(output_shapes, output_types(call), primitive, inputs);
}

}  // namespace mlx_kd::devices::cpu
