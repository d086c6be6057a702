#include "mlx_kd/runtime/operators.h"

#include "mlx_kd/kernels/table.h"
#include "mlx_kd/runtime/forms.h"

namespace mlx_kd::runtime {
namespace {

// A copy of the table that is never destroyed.
std::vector<Operator>* make_operators() {
  const auto* ops = new std::vector<spec::Op>(kernels::all_ops());
  auto* operators = new std::vector<Operator>;
  for (const spec::Op& op : *ops)
    operators->push_back(
        {&op, static_cast<uint16_t>(operators->size()), Signature(op), form_of(op)});
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
