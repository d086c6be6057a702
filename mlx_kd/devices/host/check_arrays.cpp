#include "mlx_kd/devices/host/check_arrays.h"

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/host/mlx_types.h"

namespace mlx_kd::devices {

namespace mx = mlx::core;

void check_arrays(const std::string& op_name, const std::vector<mx::array>& inputs, size_t outputs,
                  const Call& call) {
  if (inputs.size() != call.inputs.size() || outputs != call.outputs.size())
    base::fail("devices", "op '" + op_name + "' takes " + std::to_string(call.inputs.size()) +
                              " inputs and gives " + std::to_string(call.outputs.size()) +
                              " outputs, not " + std::to_string(inputs.size()) + " and " +
                              std::to_string(outputs));
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].dtype() != mlx_dtype(call.inputs[i].type))
      base::fail("devices", "this kernel of '" + op_name + "' was compiled for " +
                                spec::name_of(call.inputs[i].type) + " as input " +
                                std::to_string(i) + ": give it arrays of that type");
}

std::vector<mx::Dtype> output_types(const Call& call) {
  std::vector<mx::Dtype> types;
  types.reserve(call.outputs.size());
  for (const spec::ArraySpec& output : call.outputs) types.push_back(mlx_dtype(output.type));
  return types;
}

}  // namespace mlx_kd::devices
