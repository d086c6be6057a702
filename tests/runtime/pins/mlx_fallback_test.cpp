// The operators in MLX's, as the runtime writes them, beside the ops' own.
#include "mlx_kd/runtime/pins/operators.h"
#include "tests/runtime/pinned.h"

namespace mlx_kd::runtime {
namespace {

class Forms : public Pinned {};

// A small size that every op takes: rows 3, heads 2, widths 8.
spec::Dims small_size(const spec::Op& op) {
  spec::Dims dims;
  for (const std::string& name : op.dim_names()) dims.set(name, name == "rows" ? 3 : 8);
  return spec::complete(op, dims);
}

TEST_F(Forms, HaveTheBitsOfTheOpsOwnMlxInEveryType) {
  for (const Operator& op : all_operators())
    for (const mx::Dtype dtype : {mx::float32, mx::float16, mx::bfloat16}) {
      std::vector<mx::array> inputs;
      for (const spec::Port& port : op.op->inputs) {
        const spec::Shape shape = port.shape(small_size(*op.op));
        inputs.push_back(
            mx::astype(mx::random::normal(mx::Shape(shape.begin(), shape.end())), dtype));
      }
      std::vector<double> params;
      for (const auto& number : op.op->scalars) params.push_back(number.default_value);
      const auto expected = op.op->mlx(inputs, params);
      const auto found = op.form(inputs, params, mx::default_stream(mx::Device::cpu));
      ASSERT_EQ(found.size(), expected.size()) << op.op->name;
      for (size_t i = 0; i < found.size(); ++i)
        EXPECT_TRUE(same_bits(found[i], expected[i])) << op.op->name;
    }
}

TEST_F(Forms, EveryOpsSizeCanBeReadOffItsArrays) {
  for (const Operator& op : all_operators()) {
    ASSERT_TRUE(op.signature.readable()) << op.op->name;
    const spec::Dims dims = small_size(*op.op);
    std::vector<mx::array> inputs;
    std::vector<spec::Shape> outputs;
    for (const spec::Port& port : op.op->inputs) {
      const spec::Shape shape = port.shape(dims);
      inputs.push_back(mx::zeros(mx::Shape(shape.begin(), shape.end())));
    }
    for (const spec::Port& port : op.op->outputs) outputs.push_back(port.shape(dims));
    std::array<int64_t, kMostDims> read = {};
    op.signature.read(inputs, read);
    EXPECT_EQ(dims_of(*op.op, read), dims) << op.op->name;
    const auto shapes = op.signature.output_shapes(inputs, outputs);
    for (size_t i = 0; i < shapes.size(); ++i)
      EXPECT_EQ(spec::Shape(shapes[i].begin(), shapes[i].end()), outputs[i]) << op.op->name;
  }
}

}  // namespace
}  // namespace mlx_kd::runtime
