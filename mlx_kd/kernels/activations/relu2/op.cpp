#include <mlx/ops.h>

#include <algorithm>
#include <cmath>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/activations/elements.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_relu2();

namespace relu2 {
namespace {

namespace mx = mlx::core;
using spec::Dims;
using spec::Dtype;

spec::ErrorBound bound(const Dims&) {
  return {1, "The square is rounded in float32, then to the type."};
}

std::vector<spec::Reference64> reference(const std::vector<const void*>& inputs, Dtype dtype,
                                         const Dims& dims, const std::vector<double>&) {
  return {each_element(inputs, 1, dtype, dims, bound(dims).accumulated, [&](const double* x) {
    const double y = x[0] < 0 ? 0 : x[0] * x[0];
    return Charged{y, std::fabs(y), std::fabs(y), 2 * underflow(dtype)};
  })};
}

spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double>,
                          const mx::Stream& s) {
  return {mx::square(mx::maximum(in[0], mx::array(0.0f, in[0].dtype()), s), s)};
}

std::vector<spec::ModelSizes> model_sizes(const spec::ModelConfig& config) {
  return mlp_sizes(config, "relu2", {"relu2", "relu_squared"});
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief = "The square of what is above zero, element by element: y = max(x, 0)^2.";
  doc.parameters = {{"x", "[..., D], at least one axis."}};
  doc.returns = "Shape and type as x.";
  doc.errors = "If x has no axis.";
  return doc;
}

}  // namespace
}  // namespace relu2

spec::Op make_relu2() {
  using namespace relu2;
  spec::Op op;
  make_elementwise(op, "relu2", {"inp"}, 16384);
  op.summary = "y = max(x, 0)^2";
  op.doc = doc();
  op.of_model = relu2::model_sizes;
  op.mlx = mlx_form;
  op.reference = reference;
  op.bound = bound;
  return op;
}

}  // namespace mlx_kd::kernels
