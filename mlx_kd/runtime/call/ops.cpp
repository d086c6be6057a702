#include "mlx_kd/runtime/call/ops.h"

#include "mlx_kd/runtime/call/call.h"

namespace mlx_kd::runtime {

std::vector<mx::array> call(const std::string& op, const std::vector<mx::array>& inputs,
                            const std::map<std::string, double>& params, mx::StreamOrDevice s) {
  const Operator& found = known_operator(op);
  found.signature.check_count(inputs.size());
  return run(found, inputs, numbers_of(found, params), s);
}

std::vector<std::string> op_names() {
  std::vector<std::string> names;
  for (const Operator& op : all_operators()) names.push_back(op.op->name);
  return names;
}

}  // namespace mlx_kd::runtime
