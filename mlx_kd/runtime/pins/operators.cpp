#include "mlx_kd/runtime/pins/operators.h"

#include <algorithm>

#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::runtime {
namespace {

// Copies of the tables that are never destroyed.
const std::vector<spec::Op>& lasting_ops() {
  static const auto* const ops = new std::vector<spec::Op>(kernels::all_ops());
  return *ops;
}

Operator operator_of(const spec::Op& op, size_t index) {
  const auto is_attribute = [](const spec::Dim& dim) {
    return dim.kind == spec::Dim::Kind::attribute;
  };
  const auto is_optional = [](const spec::Port& port) { return port.optional; };
  const auto is_chosen = [](const spec::Port& port) {
    return !port.type.follows() && !port.type.is_fixed();
  };
  const auto is_plain = [](const spec::Port& port) {
    return port.type.follows() && !port.optional;
  };
  std::vector<std::optional<spec::Dtype>> fixed;
  for (const spec::Port& port : op.inputs)
    fixed.push_back(port.type.is_fixed() ? std::optional(port.type.at(spec::Dtype::float32, {}))
                                         : std::nullopt);
  return {&op,
          static_cast<uint16_t>(index),
          Signature(op),
          std::any_of(op.dims.begin(), op.dims.end(), is_attribute),
          std::any_of(op.inputs.begin(), op.inputs.end(), is_optional),
          std::any_of(op.inputs.begin(), op.inputs.end(), is_chosen),
          std::all_of(op.inputs.begin(), op.inputs.end(), is_plain),
          std::move(fixed),
          std::make_shared<std::atomic<uint32_t>>(0)};
}

std::deque<Operator>& operators() {
  static std::deque<Operator>& all = *new std::deque<Operator>;
  static const bool filled = [] {
    for (const spec::Op& op : lasting_ops()) all.push_back(operator_of(op, all.size()));
    return true;
  }();
  static_cast<void>(filled);
  return all;
}

}  // namespace

const std::deque<Operator>& all_operators() {
  return operators();
}

const Operator& add_operator(const spec::Op& op) {
  const auto* lasting = new spec::Op(op);
  operators().push_back(operator_of(*lasting, operators().size()));
  return operators().back();
}

const Operator* find_operator(const std::string& name) {
  for (const Operator& candidate : all_operators())
    if (candidate.op->name == name) return &candidate;
  return nullptr;
}

}  // namespace mlx_kd::runtime
