#include "mlx_kd/devices/cpu/cpu_program.h"

#include "mlx_kd/devices/cpu/kernel_primitive.h"
#include "mlx_kd/devices/host/check_arrays.h"
#include "mlx_kd/devices/host/memory/recycled.h"
#include "mlx_kd/devices/host/mlx_types.h"

namespace mlx_kd::devices::cpu {
namespace mx = mlx::core;
namespace {

// As mx::array::make_arrays makes them; no array is moved once it is there.
std::vector<mx::array> arrays_of(const std::vector<mx::Shape>& shapes,
                                 const std::vector<spec::ArraySpec>& outputs,
                                 std::shared_ptr<mx::Primitive> primitive,
                                 const std::vector<mx::array>& inputs) {
  std::vector<mx::array> arrays;
  arrays.reserve(shapes.size());
  for (size_t i = 0; i < shapes.size(); ++i)
    arrays.emplace_back(shapes[i], mlx_dtype(outputs[i].type), primitive, inputs);
  for (size_t i = 0; i < arrays.size() && arrays.size() > 1; ++i) {
    std::vector<mx::array> siblings;
    siblings.reserve(arrays.size() - 1);
    for (size_t j = 0; j < arrays.size(); ++j)
      if (j != i) siblings.push_back(arrays[j]);
    arrays[i].set_siblings(std::move(siblings), static_cast<uint16_t>(i));
  }
  return arrays;
}

}  // namespace

void CpuProgram::launch(const std::vector<const void*>& inputs, const std::vector<void*>& outputs,
                        const Call& call) const {
  code_->run_watched(inputs.data(), outputs.data(), code_->flatten(call));
}

std::vector<mx::array> CpuProgram::call(const std::vector<mx::array>& inputs,
                                        const std::vector<spec::Shape>& output_shapes,
                                        const Call& call) const {
  return add(inputs, mlx_shapes(output_shapes), call, code_->flatten(call),
             {mx::default_stream(mx::Device::cpu)});
}

std::vector<mx::array> CpuProgram::add_to_graph(const std::vector<mx::array>& inputs,
                                                const std::vector<mx::Shape>& output_shapes,
                                                const Call& call, const GraphCall& graph) const {
  return add(inputs, output_shapes, call, code_->flatten_once(call), graph);
}

std::vector<mx::array> CpuProgram::add(const std::vector<mx::array>& inputs,
                                       const std::vector<mx::Shape>& output_shapes,
                                       const Call& call, const FlatCall& flat,
                                       const GraphCall& graph) const {
  check_arrays(code_->op_name(), inputs, output_shapes.size(), call);
  return arrays_of(output_shapes, call.outputs,
                   std::allocate_shared<KernelPrimitive>(RecycledMemory<KernelPrimitive>(), graph,
                                                         code_, flat, inputs, output_shapes),
                   inputs);
}

}  // namespace mlx_kd::devices::cpu
