// The size of a call, read off its arrays.
#include "mlx_kd/runtime/pins/signature.h"

#include "mlx_kd/devices/host/mlx_types.h"
#include "mlx_kd/runtime/pins/operators.h"
#include "tests/runtime/pinned.h"

namespace mlx_kd::runtime {
namespace {

class Signatures : public Pinned {};

TEST_F(Signatures, EveryOpsSizeCanBeReadOffItsArrays) {
  for (const Operator& op : all_operators()) {
    if (op.op->name.starts_with("test_")) continue;
    ASSERT_TRUE(op.signature.readable()) << op.op->name;
    const spec::Dims dims = spec::complete(*op.op, op.op->suites.front().sizes.front());
    std::vector<mx::array> inputs;
    std::vector<spec::Shape> outputs;
    for (const spec::ArraySpec& array : spec::arrays_of(op.op->inputs, spec::Dtype::float32, dims))
      inputs.push_back(mx::zeros(devices::mlx_shape(array.shape), devices::mlx_dtype(array.type)));
    for (const spec::Port& port : op.op->outputs) outputs.push_back(port.shape(dims));
    DimValues read = {};
    for (size_t i = 0; i < op.op->dims.size(); ++i)
      if (op.op->dims[i].kind == spec::Dim::Kind::attribute) read[i] = dims.at(op.op->dims[i].name);
    const std::vector<double> scalars = spec::default_scalars(*op.op);
    op.signature.read(Inputs(inputs), scalars, read);
    EXPECT_EQ(dims_of(*op.op, read), dims) << op.op->name;
    const auto shapes = op.signature.output_shapes(inputs, outputs);
    for (size_t i = 0; i < shapes.size(); ++i)
      EXPECT_EQ(spec::Shape(shapes[i].begin(), shapes[i].end()), outputs[i]) << op.op->name;
  }
}

}  // namespace
}  // namespace mlx_kd::runtime
