#include "mlx_kd/runtime/pins/operators.h"

#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::runtime {
namespace {

// Copies of the tables that are never destroyed.
const std::vector<spec::Op>& lasting_ops() {
  static const auto* const ops = new std::vector<spec::Op>(kernels::all_ops());
  return *ops;
}

std::vector<Operator>* make_operators() {
  auto* operators = new std::vector<Operator>;
  for (const spec::Op& op : lasting_ops())
    operators->push_back({&op, static_cast<uint16_t>(operators->size()), Signature(op), op.mlx});
  return operators;
}

}  // namespace

const std::vector<Operator>& all_operators() {
  static const std::vector<Operator>& operators = *make_operators();
  return operators;
}

const Operator* find_operator(const std::string& name) {
  for (const Operator& candidate : all_operators())
    if (candidate.op->name == name) return &candidate;
  return nullptr;
}

}  // namespace mlx_kd::runtime
