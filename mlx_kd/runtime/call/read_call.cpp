#include "mlx_kd/runtime/call/read_call.h"

#include <algorithm>
#include <map>
#include <stdexcept>

namespace mlx_kd::runtime {
namespace {

namespace mx = mlx::core;

using Arrays = std::vector<mx::array>;

bool have_one_type(const spec::Op& op, const Arrays& inputs) {
  const mx::array* first = nullptr;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!op.inputs[i].type.follows() || is_absent(op.inputs[i], inputs[i])) continue;
    if (first && first->dtype() != inputs[i].dtype()) return false;
    first = &inputs[i];
  }
  return true;
}

[[noreturn]] void refuse_type(const spec::Op& op, size_t port, const mx::array& input,
                              const std::string& wanted) {
  throw std::invalid_argument("[" + op.name + "] " + op.inputs[port].name + " has type " +
                              type_text(input) + ": give " + wanted);
}

void check_type(const spec::Op& op, size_t port, const mx::array& input, spec::Dtype wanted) {
  if (!is_absent(op.inputs[port], input) && element_type(input) != wanted)
    refuse_type(op, port, input, spec::name_of(wanted));
}

void check_fixed_types(const Operator& op, const Arrays& inputs) {
  for (size_t i = 0; i < inputs.size(); ++i)
    if (op.fixed_types[i]) check_type(*op.op, i, inputs[i], *op.fixed_types[i]);
}

// Of the inputs at a size.
struct Types {
  const spec::Op* op = nullptr;
  DimValues dims = {};
  spec::Dtype own = spec::Dtype::float32;
  std::vector<spec::Dtype> types;
};

// Models call an op at one size again and again: a thread keeps what it last asked of each op.
const std::vector<spec::Dtype>& chosen_types(const Operator& op, const DimValues& dims,
                                             spec::Dtype own) {
  thread_local std::map<uint16_t, Types> known;
  Types& last = known[op.index];
  if (last.op == op.op && last.own == own && last.dims == dims) return last.types;
  const spec::Dims size = dims_of(*op.op, dims);
  last = {op.op, dims, own, {}};
  for (const spec::Port& port : op.op->inputs) last.types.push_back(port.type.at(own, size));
  return last.types;
}

// Types that follow from the size.
void check_chosen_types(const Operator& op, const Arrays& inputs, const DimValues& dims,
                        spec::Dtype own) {
  if (!op.has_chosen_types) return;
  const std::vector<spec::Dtype>& types = chosen_types(op, dims, own);
  for (size_t i = 0; i < inputs.size(); ++i)
    if (!op.op->inputs[i].type.follows()) check_type(*op.op, i, inputs[i], types[i]);
}

}  // namespace

std::span<const double> scalars_of(const Operator& op, const Numbers& numbers) {
  return {numbers.scalars.data(), op.op->scalars.size()};
}

bool is_empty(const spec::Op& op, const Arrays& inputs) {
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].size() == 0 && !is_absent(op.inputs[i], inputs[i])) return true;
  return false;
}

bool may_be(const spec::Op& op, spec::Dtype t) {
  return std::find(op.types.begin(), op.types.end(), t) != op.types.end();
}

// Of an op with a list of types of its own; MLX's form of other ops takes what it takes.
void check_own_type(const spec::Op& op, const Arrays& inputs) {
  if (op.types == spec::float_dtypes() || op.mlx) return;
  for (size_t i = 0; i < inputs.size(); ++i)
    if (op.inputs[i].type.follows() && !is_absent(op.inputs[i], inputs[i])) {
      const auto type = element_type(inputs[i]);
      if (!type || !may_be(op, *type)) refuse_type(op, i, inputs[i], spec::types_text(op));
    }
}

std::optional<spec::Dtype> own_type(const spec::Op& op, const Arrays& inputs) {
  for (size_t i = 0; i < inputs.size(); ++i)
    if (op.inputs[i].type.follows() && !is_absent(op.inputs[i], inputs[i])) {
      const auto type = element_type(inputs[i]);
      return type && may_be(op, *type) ? type : std::nullopt;
    }
  return spec::Dtype::float32;
}

namespace {

// T of a call as most are, in one look at its arrays: all of T, and none of them empty.
std::optional<spec::Dtype> usual_type(const Operator& op, const Arrays& inputs) {
  if (!op.has_plain_inputs) return std::nullopt;
  const mx::Dtype first = inputs[0].dtype();
  for (const mx::array& input : inputs)
    if (input.dtype() != first || input.size() == 0) return std::nullopt;
  const auto type = element_type(inputs[0]);
  return type && may_be(*op.op, *type) ? type : std::nullopt;
}

void give_query(const Operator& op, spec::Dtype own, const Numbers& numbers,
                const mx::Stream& stream, Read& read) {
  Query& query = read.query.emplace();
  query.op = op.index;
  query.dtype = static_cast<uint8_t>(own);
  query.place = static_cast<uint8_t>(stream.device.type);
  query.dims = read.dims;
  std::copy_n(numbers.scalars.begin(), op.op->scalars.size(), query.params.begin());
}

}  // namespace

Read read_call(const Operator& op, const Arrays& inputs, const Numbers& numbers,
               const mx::Stream& stream) {
  op.signature.check_count(inputs.size());
  if (const auto own = usual_type(op, inputs); own && op.signature.readable()) {
    Read read{numbers.attributes, std::nullopt};
    op.signature.read(Inputs(inputs), scalars_of(op, numbers), read.dims);
    give_query(op, *own, numbers, stream, read);
    return read;
  }
  check_fixed_types(op, inputs);
  Read read{numbers.attributes, std::nullopt};
  if (!op.signature.readable()) return read;
  op.signature.read(Inputs(inputs), scalars_of(op, numbers), read.dims);
  const auto own = own_type(*op.op, inputs);
  if (!own) {
    check_own_type(*op.op, inputs);
    return read;
  }
  const bool empty = is_empty(*op.op, inputs);
  if (!empty) check_chosen_types(op, inputs, read.dims, *own);
  if (empty || !have_one_type(*op.op, inputs)) return read;
  give_query(op, *own, numbers, stream, read);
  return read;
}

std::string unfit_reason(const Operator& op, const Arrays& inputs) {
  if (!op.signature.readable()) return "the sizes of this op cannot be read off its arrays";
  if (is_empty(*op.op, inputs)) return "an array is empty";
  if (!have_one_type(*op.op, inputs)) return "the arrays have different types";
  return "pins are for " + spec::types_text(*op.op);
}

}  // namespace mlx_kd::runtime
