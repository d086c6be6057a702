#include "mlx_kd/spec/op/op.h"

#include <algorithm>

#include "mlx_kd/base/error.h"

namespace mlx_kd::spec {
namespace {

constexpr int64_t kMostElements = int64_t(1) << 47;

int64_t value_of(const Op& op, const Dim& dim, const Dims& given) {
  const bool is_attribute = dim.kind == Dim::Kind::attribute;
  if (!given.has(dim.name)) {
    if (is_attribute) return dim.default_value;
    base::misuse("spec", "op '" + op.name + "' needs " + dim.name + ", which " + given.text() +
                             " lacks: give " + base::list_of(op.dim_names()));
  }
  const int64_t value = given.at(dim.name);
  if (value >= (is_attribute ? 0 : 1) && value <= kMostElements) return value;
  base::misuse("spec", dim.name + " is " + std::to_string(value) + " for op '" + op.name +
                           "': give a number " + (is_attribute ? "of at least 0" : "above 0"));
}

}  // namespace

std::string name_of(Distribution distribution) {
  switch (distribution) {
    case Distribution::normal:
      return "normal";
    case Distribution::magnitudes:
      return "magnitudes";
    default:
      return "special";
  }
}

Abi abi_of(const std::string& language, const std::string& launch_kind) {
  if (language == "metal") return Abi::named;
  return launch_kind.ends_with("_arguments") ? Abi::arguments : Abi::lists;
}

bool has_threads(const Stage& stage) {
  const auto& grid = stage.launch.grid;
  return std::all_of(grid.begin(), grid.end(), [](int64_t threads) { return threads > 0; });
}

std::vector<Stage> stages_of(const Variant& variant, const Dims& dims, const Setting& knobs) {
  if (variant.stages) return variant.stages(dims, knobs);
  return {{variant.func_name, variant.launch(dims, knobs)}};
}

std::vector<int64_t> scratch_of(const Variant& variant, Dtype t, const Dims& dims,
                                const Setting& knobs) {
  return variant.scratch ? variant.scratch(t, dims, knobs) : std::vector<int64_t>();
}

int64_t mlx_rows_of(const Op& op, Dtype t) {
  return op.mlx_rows ? op.mlx_rows(t) : 0;
}

std::string types_text(const Op& op) {
  std::string text;
  for (size_t i = 0; i < op.types.size(); ++i) {
    if (i > 0) text += i + 1 < op.types.size() ? ", " : " or ";
    text += name_of(op.types[i]);
  }
  return text;
}

void check_type(const Op& op, Dtype t) {
  if (std::find(op.types.begin(), op.types.end(), t) != op.types.end()) return;
  base::misuse("spec",
               "op '" + op.name + "' is not for " + name_of(t) + ": choose " + types_text(op));
}

std::vector<std::string> Op::dim_names() const {
  std::vector<std::string> names;
  for (const Dim& dim : dims) names.push_back(dim.name);
  return names;
}

Dims complete(const Op& op, const Dims& given) {
  Dims ordered;
  for (const Dim& dim : op.dims) ordered.set(dim.name, value_of(op, dim, given));
  return op.complete ? op.complete(ordered) : ordered;
}

Cost cost_of(const Op& op, const Dims& dims, Dtype t) {
  if (op.cost) return op.cost(dims, t);
  double bytes = 0;
  for (const Port& port : op.inputs) bytes += static_cast<double>(array_of(port, t, dims).bytes());
  for (const Port& port : op.outputs)
    if (port.updates.empty()) bytes += static_cast<double>(array_of(port, t, dims).bytes());
  return {bytes, 0};
}

std::vector<double> numbers_of(const Op& op, const std::vector<double>& scalars, const Dims& dims) {
  std::vector<double> numbers = scalars;
  for (const Dim& dim : op.dims)
    if (dim.kind == Dim::Kind::attribute) numbers.push_back(static_cast<double>(dims.at(dim.name)));
  return numbers;
}

Dims with_batch(const Op& op, const Dims& dims, int64_t most) {
  if (op.batch_dim.empty()) return dims;
  Dims given;
  for (const Dim& dim : op.dims)
    given.set(dim.name,
              dim.name == op.batch_dim ? std::min(most, dims.at(dim.name)) : dims.at(dim.name));
  return complete(op, given);
}

std::vector<double> default_scalars(const Op& op) {
  std::vector<double> result;
  for (const Scalar& scalar : op.scalars) result.push_back(scalar.default_value);
  return result;
}

int updating_output(const Op& op, size_t input) {
  for (size_t i = 0; i < op.outputs.size(); ++i)
    if (op.outputs[i].updates == op.inputs[input].name) return static_cast<int>(i);
  return -1;
}

int updated_input(const Op& op, size_t output) {
  const std::string& name = op.outputs[output].updates;
  for (size_t i = 0; i < op.inputs.size() && !name.empty(); ++i)
    if (op.inputs[i].name == name) return static_cast<int>(i);
  return -1;
}

bool judged_by(const Op& op, Judge judge) {
  return std::any_of(op.outputs.begin(), op.outputs.end(),
                     [&](const Port& port) { return port.judge == judge; });
}

}  // namespace mlx_kd::spec
