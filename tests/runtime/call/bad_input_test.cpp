// Arrays that no operator should be given: each operator of the table, each of its inputs.
#include "mlx_kd/devices/host/mlx_types.h"
#include "mlx_kd/runtime/call/call.h"
#include "mlx_kd/runtime/pins/operators.h"
#include "tests/runtime/pinned.h"

namespace mlx_kd::runtime {
namespace {

using Arrays = std::vector<mx::array>;

std::vector<std::string> table_names() {
  std::vector<std::string> names;
  for (const Operator& op : all_operators())
    if (!op.op->name.starts_with("test_")) names.push_back(op.op->name);
  return names;
}

class BadInput : public PinnedTable, public testing::WithParamInterface<std::string> {
 protected:
  const spec::Op& op = *known_operator(GetParam()).op;
  const std::string room = "[" + op.name + "] ";
  const spec::Dims size = small_size();

  // The suite's first size, or the smallest edge size of several of everything: MLX computes it.
  spec::Dims small_size() const {
    spec::Dims least = spec::complete(op, op.suites.front().sizes.front());
    for (const spec::Dims& edge : op.edge_sizes) {
      const spec::Dims dims = spec::complete(op, edge);
      const bool is_one_of_some =
          std::any_of(op.dims.begin(), op.dims.end(), [&](const spec::Dim& dim) {
            return dim.kind == spec::Dim::Kind::dim && dims.at(dim.name) < 2;
          });
      if (!is_one_of_some && elements_of(dims) < elements_of(least)) least = dims;
    }
    return least;
  }

  int64_t elements_of(const spec::Dims& dims) const {
    int64_t sum = 0;
    for (const spec::ArraySpec& array : spec::arrays_of(op.inputs, spec::Dtype::float32, dims))
      sum += array.elements();
    return sum;
  }

  Arrays inputs_at(const spec::Dims& dims) const {
    Arrays result;
    for (const spec::ArraySpec& array : spec::arrays_of(op.inputs, spec::Dtype::float32, dims))
      result.push_back(mx::zeros(devices::mlx_shape(array.shape), devices::mlx_dtype(array.type)));
    return result;
  }

  // The attributes of the size, which a call gives by name.
  std::map<std::string, double> numbers() const {
    std::map<std::string, double> result;
    for (const spec::Dim& dim : op.dims)
      if (dim.kind == spec::Dim::Kind::attribute)
        result[dim.name] = static_cast<double>(size.at(dim.name));
    return result;
  }

  // The size with another value of a dim; nullopt where the op has no such size.
  std::optional<spec::Dims> size_with(const std::string& dim, int64_t value) const try {
    spec::Dims dims = size;
    dims.set(dim, value);
    return op.complete ? op.complete(dims) : dims;
  } catch (const base::Error&) {
    return std::nullopt;
  }

  // The message, or "" if the call gave results.
  std::string said(const Arrays& inputs) const {
    try {
      mx::eval(call(op.name, inputs, numbers()));
      return "";
    } catch (const std::exception& error) {
      return error.what();
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Table, BadInput, testing::ValuesIn(table_names()),
                         [](const auto& test) { return test.param; });

TEST_P(BadInput, OfAnotherRankIsNamedWithItsShape) {
  for (size_t i = 0; i < op.inputs.size(); ++i) {
    Arrays inputs = inputs_at(size);
    if (is_absent(op.inputs[i], inputs[i])) continue;
    const mx::array sound = inputs[i];
    inputs[i] = mx::zeros({}, sound.dtype());
    EXPECT_EQ(said(inputs).find(room), 0u) << op.inputs[i].name << ": " << said(inputs);
    EXPECT_NE(said(inputs).find(op.inputs[i].name + " has shape ()"), std::string::npos)
        << said(inputs);
    mx::Shape longer(5, 2);
    longer.insert(longer.end(), sound.shape().begin(), sound.shape().end());
    inputs[i] = mx::broadcast_to(sound, longer);
    const std::string message = said(inputs);
    if (!op.dims.front().leading || !message.empty()) {  // else they are a larger batch
      EXPECT_EQ(message.find(room), 0u) << op.inputs[i].name << ": " << message;
      EXPECT_NE(message.find(" has shape ("), std::string::npos) << message;
    }
  }
}

TEST_P(BadInput, OfAnotherTypeIsNamedWhereThePortHasOneType) {
  for (size_t i = 0; i < op.inputs.size(); ++i) {
    if (!op.inputs[i].type.is_fixed() || is_absent(op.inputs[i], inputs_at(size)[i])) continue;
    const std::string wanted = spec::name_of(op.inputs[i].type.at(spec::Dtype::float32, {}));
    for (const mx::Dtype type : {mx::float32, mx::int64, mx::uint8, mx::bool_, mx::complex64}) {
      Arrays inputs = inputs_at(size);
      if (is_absent(op.inputs[i], inputs[i])) continue;  // an array that is left out has any type
      inputs[i] = mx::astype(inputs[i], type);
      if (inputs[i].dtype() == devices::mlx_dtype(op.inputs[i].type.at(spec::Dtype::float32, {})))
        continue;
      EXPECT_EQ(said(inputs), room + op.inputs[i].name + " has type " + type_text(inputs[i]) +
                                  ": give " + wanted);
    }
  }
}

// Of its own type a port may have what MLX takes: then the results are MLX's.
TEST_P(BadInput, OfTypesThatNoKernelHasGivesMlxsResultOrItsWords) {
  for (const mx::Dtype type : {mx::int32, mx::bool_, mx::uint8, mx::complex64, mx::float64}) {
    Arrays inputs = inputs_at(size);
    for (size_t i = 0; i < inputs.size(); ++i)
      if (op.inputs[i].type.follows()) inputs[i] = mx::astype(inputs[i], type, mx::Device::cpu);
    const std::string message = said(inputs);
    EXPECT_TRUE(message.empty() || message[0] == '[') << message;
    EXPECT_EQ(stats().hits, 0u);
  }
}

// Whatever dim it is: MLX's quantised product, asked for one, divides by it and the process ends.
TEST_P(BadInput, OfASizeOfZeroGivesResultsOrAMessage) {
  for (const spec::Dim& dim : op.dims) {
    if (dim.kind != spec::Dim::Kind::dim) continue;
    spec::Dims none = size_with(dim.name, 0).value_or(size);
    none.set(dim.name, 0);
    const std::string message = said(inputs_at(none));
    EXPECT_TRUE(message.empty() || (message[0] == '[' && message.find(op.name) < 12))
        << dim.name << ": " << message;
  }
}

TEST_P(BadInput, OfAnEmptyBatchGivesResultsOfTheRightShapes) {
  for (const spec::Dim& dim : op.dims) {
    if (dim.kind != spec::Dim::Kind::dim) continue;
    const auto known = size_with(dim.name, 0);
    if (!known || (dim.name != op.batch_dim && !dim.leading)) continue;
    const spec::Dims& empty = *known;
    const Arrays inputs = inputs_at(empty);
    const bool any = std::any_of(inputs.begin(), inputs.end(),
                                 [](const mx::array& array) { return array.size() == 0; });
    ASSERT_TRUE(any) << dim.name;
    try {
      const Arrays outputs = call(op.name, inputs, numbers());
      mx::eval(outputs);
      for (size_t i = 0; i < outputs.size(); ++i)
        EXPECT_EQ(outputs[i].shape(), devices::mlx_shape(op.outputs[i].shape(empty)))
            << dim.name << ", " << op.outputs[i].name;
    } catch (const std::exception& error) {
      ADD_FAILURE() << dim.name << ": " << error.what();
    }
  }
}

// Arrays of one element in memory, and of more than 2^31 in their shapes.
TEST_P(BadInput, OfMoreThanTwoToThe31ElementsHasItsSizeAndShapes) {
  if (op.batch_dim.empty()) GTEST_SKIP() << "it has no batch";
  const auto most = int64_t(1) << 30;
  const auto size_of_most = size_with(op.batch_dim, most);
  if (!size_of_most) GTEST_SKIP() << "it takes no such batch";
  const spec::Dims& large = *size_of_most;
  Arrays inputs;
  int64_t elements = 0;
  for (const spec::ArraySpec& array : spec::arrays_of(op.inputs, spec::Dtype::float32, large)) {
    elements = std::max(elements, array.elements());
    inputs.push_back(mx::broadcast_to(mx::zeros({}, devices::mlx_dtype(array.type)),
                                      devices::mlx_shape(array.shape)));
  }
  for (const spec::ArraySpec& array : spec::arrays_of(op.outputs, spec::Dtype::float32, large))
    elements = std::max(elements, array.elements());
  if (elements <= int64_t(1) << 31) GTEST_SKIP() << "no array of it has more with such a batch";
  const Operator& known = known_operator(op.name);
  const auto query =
      read_call(known, inputs, numbers_of(known, numbers()), mx::default_stream(mx::Device::cpu))
          .query;
  ASSERT_TRUE(query);
  EXPECT_EQ(dims_of(op, query->dims), large);
  const Arrays outputs = call(op.name, inputs, numbers(), mx::Device::cpu);  // not evaluated
  for (size_t i = 0; i < outputs.size(); ++i)
    EXPECT_EQ(outputs[i].shape(), devices::mlx_shape(op.outputs[i].shape(large)));
}

TEST_P(BadInput, OfMoreElementsThanCanBeCountedIsRefused) {
  if (!op.dims.front().leading || op.signature) GTEST_SKIP() << "it has no leading axes";
  Arrays inputs = inputs_at(size);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].ndim() < 2) continue;
    mx::Shape shape = {1 << 30, 1 << 30, 1 << 30};
    shape.insert(shape.end(), inputs[i].shape().begin() + 1, inputs[i].shape().end());
    inputs[i] = mx::broadcast_to(mx::zeros({}), shape);
  }
  EXPECT_NE(said(inputs).find("more elements than an array can have"), std::string::npos)
      << said(inputs);
}

}  // namespace
}  // namespace mlx_kd::runtime
