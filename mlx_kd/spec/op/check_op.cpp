// What an operator must hold before the table takes it.
#include <algorithm>
#include <cmath>
#include <set>

#include "mlx_kd/spec/op/limits.h"
#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::spec {
namespace {

class Faults {
 public:
  void add(const std::string& field, const std::string& what) {
    found_.push_back(field + ": " + what);
  }
  void at_most(const std::string& field, size_t count, size_t most) {
    if (count > most)
      add(field, std::to_string(count) + " where at most " + std::to_string(most) +
                     " fit (spec/op/limits.h)");
  }
  std::vector<std::string> take() { return std::move(found_); }

 private:
  std::vector<std::string> found_;
};

template <class Items>
void check_names(const std::string& field, const Items& items, std::set<std::string>& taken,
                 Faults& faults) {
  for (const auto& item : items) {
    if (item.name.empty()) faults.add(field, "one has no name");
    if (!item.name.empty() && !taken.insert(item.name).second)
      faults.add(field, "the name '" + item.name + "' is taken twice");
  }
}

void check_limits(const Op& op, Faults& faults) {
  faults.at_most("inputs", op.inputs.size(), kMostInputs);
  faults.at_most("outputs", op.outputs.size(), kMostOutputs);
  faults.at_most("dims", op.dims.size(), kMostDims);
  faults.at_most("scalars", op.scalars.size(), kMostScalars);
  if (op.types.empty()) faults.add("types", "there is none");
  if (op.outputs.empty()) faults.add("outputs", "there is none");
  if (op.dims.empty()) faults.add("dims", "there is none");
  if (op.suites.empty() || op.suites.front().sizes.empty())
    faults.add("suites", "the first must have a size");
  if (op.variants.empty()) faults.add("variants", "there is none");
}

// References are float64 themselves.
void check_wide_types(const Op& op, Faults& faults) {
  for (const Dtype t : op.types)
    if (!is_float(t)) faults.add("types", name_of(t) + " is not a floating-point type");
  const bool wide = std::find(op.types.begin(), op.types.end(), Dtype::float64) != op.types.end();
  for (const Port& port : op.outputs)
    if (port.judge == Judge::bound &&
        ((port.type.follows() && wide) ||
         (port.type.is_fixed() && port.type.at(Dtype::float32, {}) == Dtype::float64)))
      faults.add("outputs." + port.name,
                 "float64 has no bound around float64: judge it by residuals or as exact");
}

void check_judges(const Op& op, Faults& faults) {
  if (judged_by(op, Judge::bound) && !(op.reference && op.bound))
    faults.add("reference", "an output is judged by its bound: give `reference` and `bound`");
  if (judged_by(op, Judge::residuals) && !op.residuals)
    faults.add("residuals", "an output is judged by residuals and there is no such function");
  if (judged_by(op, Judge::exact) && !op.exact && !op.mlx)
    faults.add("exact", "an output is judged exactly: give `exact`, or `mlx` to compare with");
}

bool is_always_integer(const Port& port) {
  if (!port.type.is_fixed()) return false;
  const Dtype type = port.type.at(Dtype::float32, {});
  return !is_float(type) && type != Dtype::boolean;
}

void check_ports(const Op& op, Faults& faults) {
  bool only_t = true;
  for (const Port& port : op.inputs) {
    only_t = only_t && port.type.follows();
    if (!port.updates.empty()) faults.add("inputs." + port.name, "only an output updates an input");
    if (port.int_range && (port.optional || !is_always_integer(port)))
      faults.add("inputs." + port.name,
                 "it has an int_range: an int may replace an input that is there and has a fixed "
                 "integer type alone");
  }
  if (!only_t && !op.fill)
    faults.add("fill", "an input has a type of its own, which the default fill does not write");
  for (size_t i = 0; i < op.outputs.size(); ++i) {
    const Port& port = op.outputs[i];
    const std::string field = "outputs." + port.name;
    if (port.strided || port.optional || port.int_range)
      faults.add(field, "only an input is strided, optional or given as an int");
    if (!port.updates.empty() && updated_input(op, i) < 0)
      faults.add(field, "it updates '" + port.updates + "', which is not an input");
    if (port.judge == Judge::bound && port.type.is_fixed() &&
        !is_float(port.type.at(Dtype::float32, {})))
      faults.add(field, "an integer type has no error bound: judge it as exact or by residuals");
  }
  for (const Dim& dim : op.dims)
    if (dim.leading && &dim != &op.dims.front())
      faults.add("dims." + dim.name, "only the first dim represents leading axes");
  const auto names = op.dim_names();
  if (!op.batch_dim.empty() && std::find(names.begin(), names.end(), op.batch_dim) == names.end())
    faults.add("batch_dim", "'" + op.batch_dim + "' is not a dim");
  for (const std::string& name : op.proof_dims)
    if (std::find(names.begin(), names.end(), name) == names.end())
      faults.add("proof_dims", "'" + name + "' is not a dim");
}

// The lists of Abi::lists carry pointers of one type and no strides.
bool needs_arguments(const Op& op) {
  const auto is_special = [](const Port& port) {
    return port.strided || !port.type.follows() || !port.updates.empty();
  };
  return std::any_of(op.inputs.begin(), op.inputs.end(), is_special) ||
         std::any_of(op.outputs.begin(), op.outputs.end(), is_special);
}

void check_variants(const Op& op, Faults& faults) {
  std::set<std::string> seen;
  for (const Variant& variant : op.variants) {
    const std::string field = "variants." + variant.language + "." + variant.name;
    if (!seen.insert(field).second) faults.add(field, "it is there twice");
    if (!variant.space || !(variant.launch || variant.stages))
      faults.add(field, "it needs `space`, and `launch` or `stages`");
    const Abi abi = abi_of(variant.language, variant.launch_kind);
    if (variant.language == "cuda" && abi != Abi::arguments)
      faults.add(field, "CUDA kernels take one kd_arguments: call its launch_kind cuda_arguments");
    if (variant.language == "metal" && !variant.launch_kind.starts_with("metal_"))
      faults.add(field, "the launch_kind of a whole Metal file begins with metal_");
    if (abi == Abi::lists && (variant.scratch || variant.stages || needs_arguments(op)))
      faults.add(field,
                 "stages, scratch memory, strided, updated and typed ports need a launch_kind that "
                 "ends in _arguments");
  }
}

}  // namespace

std::vector<std::string> faults_of(const Op& op) {
  Faults faults;
  if (op.name.empty()) faults.add("name", "it is empty");
  std::set<std::string> taken;
  check_names("inputs", op.inputs, taken, faults);
  check_names("outputs", op.outputs, taken, faults);
  check_names("dims", op.dims, taken, faults);
  check_names("scalars", op.scalars, taken, faults);
  check_limits(op, faults);
  for (const Scalar& scalar : op.scalars) {
    const std::string field = "scalars." + scalar.name;
    if (std::find(scalar.proved.begin(), scalar.proved.end(), scalar.default_value) ==
        scalar.proved.end())
      faults.add(field, "its default is not among the values that are proved");
    for (const double value : scalar.proved)
      if (const std::string why = scalar.why_not(value); !why.empty())
        faults.add(field, "it is proved with " + std::to_string(value) + ": " + why);
  }
  check_wide_types(op, faults);
  check_judges(op, faults);
  check_ports(op, faults);
  check_variants(op, faults);
  return faults.take();
}

}  // namespace mlx_kd::spec
