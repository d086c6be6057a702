#include "mlx_kd/runtime/call/graph_forms.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <stdexcept>

#include "mlx/ops.h"
#include "mlx/transforms.h"
#include "mlx_kd/runtime/call/call.h"

namespace mlx_kd::runtime {
namespace {

namespace mx = mlx::core;

using Arrays = std::vector<mx::array>;
using By = spec::Gradient::By;

bool is_attribute(const spec::Dim& dim) {
  return dim.kind == spec::Dim::Kind::attribute;
}

// The scalars, then the attributes.
std::vector<double> numbers_for_mlx(const spec::Op& op, std::span<const double> scalars,
                                    const DimValues& dims) {
  std::vector<double> numbers(scalars.begin(),
                              scalars.begin() + static_cast<std::ptrdiff_t>(op.scalars.size()));
  for (size_t i = 0; i < op.dims.size(); ++i)
    if (is_attribute(op.dims[i])) numbers.push_back(static_cast<double>(dims[i]));
  return numbers;
}

// Whatever the arrays of a call are called: inputs, outputs, cotangents ("d" and the output).
class Named {
 public:
  void add(const std::vector<spec::Port>& ports, const Arrays& arrays, const std::string& before) {
    for (size_t i = 0; i < ports.size() && i < arrays.size(); ++i)
      arrays_.emplace_back(before + ports[i].name, arrays[i]);
  }
  const mx::array* find(const std::string& name) const {
    for (const auto& [known, array] : arrays_)
      if (known == name) return &array;
    return nullptr;
  }

 private:
  std::vector<std::pair<std::string, mx::array>> arrays_;
};

Arrays inputs_of(const spec::Op& gradient, const Named& named) {
  Arrays inputs;
  for (const spec::Port& port : gradient.inputs) {
    const mx::array* found = named.find(port.name);
    if (!found)
      throw std::logic_error("[runtime] the gradient '" + gradient.name + "' takes '" + port.name +
                             "', which its operator does not have: correct its op.cpp");
    inputs.push_back(*found);
  }
  return inputs;
}

// Numbers of the gradient by their names in the operator.
Numbers numbers_of_gradient(const Operator& gradient, const spec::Op& op,
                            std::span<const double> scalars, const DimValues& dims) {
  std::map<std::string, double> given;
  for (const spec::Scalar& scalar : gradient.op->scalars)
    for (size_t i = 0; i < op.scalars.size(); ++i)
      if (op.scalars[i].name == scalar.name) given[scalar.name] = scalars[i];
  for (const spec::Dim& dim : gradient.op->dims)
    for (size_t i = 0; i < op.dims.size() && is_attribute(dim); ++i)
      if (op.dims[i].name == dim.name) given[dim.name] = static_cast<double>(dims[i]);
  return numbers_of(gradient, given);
}

// One gradient per input of the op: the output called "d" and its name, or zeros.
Arrays gradients_by_op(const spec::Op& op, const DimValues& dims, const Arrays& primals,
                       const Arrays& outputs, const Arrays& cotangents,
                       std::span<const double> scalars, const mx::Stream& stream) {
  const Operator& gradient = known_operator(op.gradient.op);
  Named named;
  named.add(op.inputs, primals, "");
  named.add(op.outputs, outputs, "");
  named.add(op.outputs, cotangents, "d");
  const Arrays found = run(gradient, inputs_of(*gradient.op, named),
                           numbers_of_gradient(gradient, op, scalars, dims), stream);
  Named results;
  results.add(gradient.op->outputs, found, "");
  Arrays gradients;
  for (size_t i = 0; i < op.inputs.size(); ++i) {
    const mx::array* one = results.find("d" + op.inputs[i].name);
    gradients.push_back(one ? *one : mx::zeros_like(primals[i], stream));
  }
  return gradients;
}

struct Forms {
  devices::MlxForm form;
  devices::VjpForm vjp;
};

// In MLX's operators: its form of the op or, where it has none, the composition; null where there
// is neither.
const devices::MlxForm* written_form(const spec::Op& op) {
  return op.mlx ? &op.mlx : op.composition ? &op.composition : nullptr;
}

Forms make_forms(const spec::Op& op, const DimValues& dims) {
  Forms forms;
  if (const devices::MlxForm* const form = written_form(op))
    forms.form = [&op, form, dims](const Arrays& inputs, std::span<const double> scalars,
                                   const mx::Stream& stream) {
      return (*form)(inputs, numbers_for_mlx(op, scalars, dims), stream);
    };
  if (op.gradient.by == By::op)
    forms.vjp = [&op, dims](const Arrays& primals, const Arrays& outputs, const Arrays& cotangents,
                            std::span<const double> scalars, const mx::Stream& stream) {
      return gradients_by_op(op, dims, primals, outputs, cotangents, scalars, stream);
    };
  return forms;
}

// By the op and its attributes, of which a program has few; never destroyed.
const Forms& shared_forms(const Operator& op, const DimValues& attributes) {
  static std::mutex mutex;
  static auto& all = *new std::map<std::pair<uint16_t, DimValues>, Forms>;
  const std::pair<uint16_t, DimValues> key{op.index, attributes};
  std::lock_guard lock(mutex);
  const auto found = all.find(key);
  return found != all.end() ? found->second
                            : all.emplace(key, make_forms(*op.op, attributes)).first->second;
}

// A thread keeps what it last asked of each op.
const Forms& forms_of(const Operator& op, const DimValues& dims) {
  struct Known {
    const spec::Op* op = nullptr;
    DimValues attributes = {};
    const Forms* forms = nullptr;
  };
  thread_local std::map<uint16_t, Known> known;
  DimValues attributes = {};
  for (size_t i = 0; i < op.op->dims.size(); ++i)
    if (is_attribute(op.op->dims[i])) attributes[i] = dims[i];
  Known& last = known[op.index];
  if (last.op != op.op || last.attributes != attributes)
    last = {op.op, attributes, &shared_forms(op, attributes)};
  return *last.forms;
}

[[noreturn]] void refuse_gradient(const spec::Op& op) {
  throw std::invalid_argument("[" + op.name + "] it has no gradient");
}

// The form as one node for transformations, whose gradient is not the form's.
Arrays with_own_gradient(const spec::Op& op, const Arrays& inputs, const Forms& forms,
                         const std::vector<double>& scalars, const mx::Stream& stream) {
  const auto run_form = [&forms, scalars, stream](const Arrays& in) {
    return forms.form(in, scalars, stream);
  };
  const auto vjp = [&op, &forms, scalars, stream](const Arrays& primals, const Arrays& cotangents,
                                                  const Arrays& outputs) {
    if (!forms.vjp) refuse_gradient(op);
    return forms.vjp(primals, outputs, cotangents, scalars, stream);
  };
  const auto jvp = [&op, run_form](const Arrays& primals, const Arrays& tangents,
                                   const std::vector<int>& argnums) {
    if (op.gradient.by == By::none) refuse_gradient(op);
    const auto of_some = [&](const Arrays& some) {
      Arrays all = primals;
      for (size_t i = 0; i < some.size(); ++i) all[static_cast<size_t>(argnums[i])] = some[i];
      return run_form(all);
    };
    Arrays some;
    for (const int argnum : argnums) some.push_back(primals[static_cast<size_t>(argnum)]);
    return mx::jvp(of_some, some, tangents).second;
  };
  const auto vmap = [run_form](const Arrays& in, const std::vector<int>& axes) {
    Arrays outputs = mx::vmap(run_form, axes, {})(in);
    std::vector<int> out_axes(outputs.size(), 0);
    return std::make_pair(std::move(outputs), std::move(out_axes));
  };
  return mx::custom_function(run_form, vjp, jvp, vmap)(inputs);
}

}  // namespace

bool is_traced(const Inputs& inputs) {
  return std::any_of(inputs.begin(), inputs.end(),
                     [](const mx::array* input) { return input->is_tracer(); });
}

devices::GraphCall graph_call(const Operator& op, const DimValues& dims, const mx::Stream& stream) {
  const spec::Op& what = *op.op;
  if (what.gradient.by == By::none) return {stream};
  if (what.gradient.by == By::mlx && !op.has_attributes) return {stream, written_form(what)};
  const Forms& forms = forms_of(op, dims);
  return {stream, forms.form ? &forms.form : nullptr, forms.vjp ? &forms.vjp : nullptr};
}

Arrays in_mlx(const Operator& op, const Arrays& inputs, std::span<const double> scalars,
              const DimValues& dims, const mx::Stream& stream) {
  const spec::Op& what = *op.op;
  if (what.gradient.by != By::mlx && is_traced(Inputs(inputs)))
    return with_own_gradient(what, inputs, forms_of(op, dims), {scalars.begin(), scalars.end()},
                             stream);
  if (op.has_attributes) return what.mlx(inputs, numbers_for_mlx(what, scalars, dims), stream);
  return what.mlx(inputs, scalars.first(what.scalars.size()), stream);
}

}  // namespace mlx_kd::runtime
