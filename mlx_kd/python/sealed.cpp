// Nodes of a graph that transformations do not look into, for functions that bring their own rules.
//
// A custom function of MLX keeps its forward pass as inputs, so that vmap visits each operation of
// it, and fails at those that MLX cannot map. A sealed node holds the operations itself and
// evaluates them one after the other.
#include <memory>
#include <stdexcept>
#include <unordered_map>

#include "mlx/backend/cpu/encoder.h"
#include "mlx/ops.h"
#include "mlx/primitives.h"
#include "mlx_kd/python/bindings.h"

namespace mlx_kd::python {
namespace {

using Arrays = std::vector<mx::array>;

// An operation; values are numbered, the inputs of the whole first.
struct Operation {
  std::shared_ptr<mx::Primitive> primitive;
  std::vector<size_t> inputs, outputs;
  std::vector<mx::Shape> shapes;
  std::vector<mx::Dtype> dtypes;
};

struct Operations {
  std::vector<Operation> list;  // in the order of evaluation
  std::vector<std::pair<size_t, mx::array>> constants;
  std::vector<size_t> results;
  size_t values = 0;
};

class OperationReader {
 public:
  explicit OperationReader(const Arrays& inputs) {
    for (const mx::array& input : inputs) number_of_[input.id()] = found_.values++;
  }

  Operations read(const Arrays& outputs) {
    for (const mx::array& output : outputs) found_.results.push_back(visit(output));
    return std::move(found_);
  }

 private:
  size_t visit(const mx::array& a) {
    if (const auto known = number_of_.find(a.id()); known != number_of_.end()) return known->second;
    if (!a.has_primitive() || a.status() == mx::array::Status::available) return add_constant(a);
    Operation operation{a.primitive_ptr(), {}, {}, {}, {}};
    for (const mx::array& input : a.inputs()) operation.inputs.push_back(visit(input));
    for (const mx::array& output : a.outputs()) {
      number_of_[output.id()] = found_.values;
      operation.outputs.push_back(found_.values++);
      operation.shapes.push_back(output.shape());
      operation.dtypes.push_back(output.dtype());
    }
    found_.list.push_back(std::move(operation));
    return number_of_.at(a.id());
  }

  size_t add_constant(const mx::array& a) {
    if (a.status() != mx::array::Status::available)
      throw std::logic_error(
          "[linalg] a sealed function takes an array that is not an input of it");
    number_of_[a.id()] = found_.values;
    found_.constants.emplace_back(found_.values, a);
    return found_.values++;
  }

  Operations found_;
  std::unordered_map<std::uintptr_t, size_t> number_of_;
};

class Sealed : public mx::Primitive {
 public:
  Sealed(mx::Stream stream, Operations operations)
      : Primitive(stream), operations_(std::move(operations)) {}

  void eval_cpu(const Arrays& inputs, Arrays& outputs) override {
    std::vector<std::optional<mx::array>> values(operations_.values);
    for (size_t i = 0; i < inputs.size(); ++i) values[i] = inputs[i];
    for (const auto& [number, constant] : operations_.constants) values[number] = constant;
    for (const Operation& operation : operations_.list) evaluate(operation, values);
    for (size_t i = 0; i < outputs.size(); ++i)
      outputs[i].copy_shared_buffer(*values[operations_.results[i]]);
  }

  void eval_gpu(const Arrays&, Arrays&) override {
    throw std::logic_error("[linalg] a sealed function was given a GPU's stream");
  }

  // The custom function around it has a vmap of its own, for which these are of no account.
  std::pair<Arrays, std::vector<int>> vmap(const Arrays& inputs,
                                           const std::vector<int>& axes) override {
    int size = 1;
    for (size_t i = 0; i < inputs.size(); ++i)
      if (axes[i] >= 0) size = inputs[i].shape(axes[i]);
    Arrays outputs;
    for (const size_t result : operations_.results) outputs.push_back(of_size(size, result));
    std::vector<int> first(outputs.size(), 0);
    return {std::move(outputs), std::move(first)};
  }

  const char* name() const override { return "Sealed"; }

 private:
  // No operation may take over the memory of a value: `values` holds them all.
  void evaluate(const Operation& operation, std::vector<std::optional<mx::array>>& values) {
    Arrays inputs;
    for (const size_t input : operation.inputs) inputs.push_back(*values[input]);
    Arrays outputs =
        mx::array::make_arrays(operation.shapes, operation.dtypes, operation.primitive, inputs);
    operation.primitive->eval_cpu(inputs, outputs);
    outputs.front().detach();
    for (size_t i = 0; i < outputs.size(); ++i) {
      mx::cpu::get_command_encoder(stream()).add_temporary(outputs[i]);
      values[operation.outputs[i]] = outputs[i];
    }
  }

  mx::array of_size(int size, size_t result) {
    for (const Operation& operation : operations_.list)
      for (size_t i = 0; i < operation.outputs.size(); ++i)
        if (operation.outputs[i] == result) {
          mx::Shape shape = operation.shapes[i];
          shape.insert(shape.begin(), size);
          return mx::zeros(shape, operation.dtypes[i], stream());
        }
    return mx::zeros({size}, stream());
  }

  Operations operations_;
};

void check_streams(const Operations& operations, const mx::Stream& stream) {
  for (const Operation& operation : operations.list)
    if (operation.primitive->stream() != stream)
      throw std::logic_error(std::string("[linalg] ") + operation.primitive->name() +
                             " is on another stream than its sealed function");
}

// Arrays of the same shapes and types, without values.
Arrays placeholders(const Arrays& arrays) {
  Arrays made;
  for (const mx::array& a : arrays) made.push_back(mx::array(a.shape(), a.dtype(), nullptr, {}));
  return made;
}

// `outputs`, computed from `stand_ins`, computed from `inputs` instead.
Arrays seal(const Arrays& inputs, const Arrays& stand_ins, const Arrays& outputs,
            const mx::StreamOrDevice& where) {
  const mx::Stream stream = mx::to_stream(where);
  Operations operations = OperationReader(stand_ins).read(outputs);
  check_streams(operations, stream);
  std::vector<mx::Shape> shapes;
  std::vector<mx::Dtype> dtypes;
  for (const mx::array& output : outputs) {
    shapes.push_back(output.shape());
    dtypes.push_back(output.dtype());
  }
  return mx::array::make_arrays(std::move(shapes), dtypes,
                                std::make_shared<Sealed>(stream, std::move(operations)), inputs);
}

// The arrays as they are; evaluating them throws where an element of the last input is not 0.
class Raising : public mx::Primitive {
 public:
  Raising(mx::Stream stream, std::string message)
      : Primitive(stream), message_(std::move(message)) {}

  void eval_cpu(const Arrays& inputs, Arrays& outputs) override {
    for (size_t i = 0; i < outputs.size(); ++i) outputs[i].copy_shared_buffer(inputs[i]);
    const mx::array& info = inputs.back();
    mx::cpu::get_command_encoder(stream()).dispatch(
        [from = info.data<int32_t>(), size = info.size(), message = message_] {
          for (size_t i = 0; i < size; ++i)
            if (from[i] != 0) throw std::runtime_error(message + std::to_string(from[i]));
        });
  }

  void eval_gpu(const Arrays&, Arrays&) override {
    throw std::logic_error("[linalg] MLX's exceptions are raised on a CPU stream alone");
  }

  std::vector<mx::array> vjp(const Arrays& primals, const Arrays& cotangents,
                             const std::vector<int>& argnums, const Arrays&) override {
    Arrays gradients;
    for (const int i : argnums) {
      const auto at = static_cast<size_t>(i);
      gradients.push_back(at < cotangents.size() ? cotangents[at]
                                                 : mx::zeros_like(primals[at], stream()));
    }
    return gradients;
  }

  std::vector<mx::array> jvp(const Arrays& primals, const Arrays& tangents,
                             const std::vector<int>& argnums) override {
    Arrays found;
    for (size_t i = 0; i + 1 < primals.size(); ++i)
      found.push_back(mx::zeros_like(primals[i], stream()));
    for (size_t k = 0; k < argnums.size(); ++k)
      if (const auto at = static_cast<size_t>(argnums[k]); at < found.size())
        found[at] = tangents[k];
    return found;
  }

  std::pair<Arrays, std::vector<int>> vmap(const Arrays& inputs,
                                           const std::vector<int>& axes) override;

  const char* name() const override { return "Raising"; }

 private:
  std::string message_;
};

Arrays raising(const Arrays& arrays, const mx::array& info, const std::string& message,
               const mx::StreamOrDevice& where) {
  const mx::Stream stream = mx::to_stream(where);
  Arrays inputs = arrays;
  inputs.push_back(mx::contiguous(info, false, stream));
  std::vector<mx::Shape> shapes;
  std::vector<mx::Dtype> dtypes;
  for (const mx::array& a : arrays) {
    shapes.push_back(a.shape());
    dtypes.push_back(a.dtype());
  }
  return mx::array::make_arrays(std::move(shapes), dtypes,
                                std::make_shared<Raising>(stream, message), std::move(inputs));
}

std::pair<Arrays, std::vector<int>> Raising::vmap(const Arrays& inputs,
                                                  const std::vector<int>& axes) {
  const Arrays arrays(inputs.begin(), inputs.end() - 1);
  return {raising(arrays, inputs.back(), message_, stream()),
          std::vector<int>(axes.begin(), axes.end() - 1)};
}

bool is_traced(const Arrays& arrays) {
  for (const mx::array& a : arrays)
    if (a.is_tracer()) return true;
  return false;
}

}  // namespace

#define MLX_KD_ARRAYS "collections.abc.Sequence[mlx.core.array]"
#define MLX_KD_WHERE "stream: mlx.core.Stream | mlx.core.Device"

void add_sealed(nb::module_& m) {
  using namespace nb::literals;
  m.def("placeholders", &placeholders, "arrays"_a,
        nb::sig("def placeholders(arrays: " MLX_KD_ARRAYS ") -> list[mlx.core.array]"),
        "Arrays of the same shapes and types, without values.");
  m.def("seal", &seal, "inputs"_a, "stand_ins"_a, "outputs"_a, "stream"_a,
        nb::sig("def seal(inputs: " MLX_KD_ARRAYS ", stand_ins: " MLX_KD_ARRAYS
                ", outputs: " MLX_KD_ARRAYS ", " MLX_KD_WHERE ") -> list[mlx.core.array]"),
        "What was computed from placeholders on a CPU stream, computed from inputs, as one node.");
  m.def("raising", &raising, "arrays"_a, "info"_a, "message"_a, "stream"_a,
        nb::sig("def raising(arrays: " MLX_KD_ARRAYS
                ", info: mlx.core.array, message: str, " MLX_KD_WHERE ") -> list[mlx.core.array]"),
        "The arrays; evaluating them raises the message where an int32 of info is not 0.");
  m.def("is_traced", &is_traced, "arrays"_a,
        nb::sig("def is_traced(arrays: " MLX_KD_ARRAYS ") -> bool"),
        "Whether a transformation of MLX is looking at one of them.");
}

}  // namespace mlx_kd::python
