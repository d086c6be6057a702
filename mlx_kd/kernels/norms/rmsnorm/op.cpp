#include "mlx_kd/kernels/common/model_sizes.h"
#include "mlx_kd/kernels/common/suites.h"
#include "mlx_kd/kernels/norms/model_sizes.h"
#include "mlx_kd/kernels/norms/norm_reference.h"
#include "mlx_kd/kernels/norms/rmsnorm/mlx_form.h"
#include "mlx_kd/kernels/norms/rows.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_rmsnorm();

namespace rmsnorm {
namespace {

using spec::Dims;
using spec::Dtype;

spec::ErrorBound bound(const Dims& dims) {
  return {norm_roundings(dims.at("D")),
          "x scale and the product with w are rounded to the type, each charged on |y|. The scale "
          "is float32: half of 6 "
          "sqrt(D) for a sum of D squares (Higham and Mary 2019, theorem 2.4) and 8 for the other "
          "steps."};
}

std::vector<spec::Reference64> reference(const std::vector<const void*>& inputs, Dtype dtype,
                                         const Dims& dims, const std::vector<double>& params) {
  const int64_t d = dims.at("D");
  return {norm_reference(load_all(inputs[0], dims.at("rows") * d, dtype),
                         load_all(inputs[1], d, dtype), params[0], dtype, 2,
                         bound(dims).accumulated)};
}

spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double> params,
                          const mlx::core::Stream& s) {
  return {rmsnorm_in_mlx(in[0], in[1], params[0], s)};
}

spec::Space space(Dtype dtype, const spec::DeviceTraits& traits) {
  return cpu_rows_space(dtype, traits, false);
}

spec::Space metal_space(Dtype dtype, const spec::DeviceTraits&) {
  return metal_rows_space(dtype, false);
}

void add_special_values(const std::vector<void*>& inputs, Dtype dtype, const Dims& dims) {
  const int64_t rows = dims.at("rows"), d = dims.at("D");
  for (int64_t row = 0; row < rows && row < kSpecialRows; ++row)
    write_special_row(inputs[0], row, d, dtype);
  spec::store_element(inputs[1], d - 1, dtype, -0.0f);
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "Root-mean-square norm over the last axis, times a weight. y = weight * rounded(x * "
      "rsqrt(mean(x^2) + eps)), as mx.fast.rms_norm.";
  doc.parameters = {
      {"x", "[..., D], at least one axis."}, {"weight", "[D]."}, {"eps", "Positive."}};
  doc.returns = "Shape as x, in MLX's common type of x and weight.";
  doc.errors = "If a shape or eps does not fit; the message shows both shapes.";
  return doc;
}

}  // namespace
}  // namespace rmsnorm

spec::Op make_rmsnorm() {
  using namespace rmsnorm;
  spec::Op op;
  op.name = "rmsnorm";
  op.summary = "y = w * rounded(x * rsqrt(mean(x^2) + eps)) by rows";
  op.doc = doc();
  op.inputs = {{"inp", rows_by_d}, {"weight", one_row}};
  op.outputs = {{"out", rows_by_d}};
  op.dims = {rows_dim(), {"D"}};
  op.batch_dim = "rows";
  op.edge_sizes = rows_edges();
  op.scalars = {eps_scalar()};
  op.suites = {rows_suite("glm_flash_small", kPrefillRows, 2048),
               rows_suite("glm_flash_decode", kDecodeRows, 2048)};
  op.of_model = [](const spec::ModelConfig& config) {
    std::vector<spec::ModelSizes> result = attention_norms(config);
    // The other norms of a step are part of products, but for those before experts.
    const int64_t layers = layer_count(config);
    result.insert(result.begin(), hidden_norm(config));
    result.front().calls = {layers ? 1 + layers - dense_layers(config) : 0, 2 * layers + 1};
    return result;
  };
  op.cost = [](const Dims& dims, Dtype dtype) {
    const auto d = static_cast<double>(dims.at("D")), n = d * static_cast<double>(dims.at("rows"));
    return spec::Cost{(2 * n + d) * static_cast<double>(spec::size_of(dtype)), 4 * n};
  };
  op.mlx = mlx_form;
  op.reference = reference;
  op.bound = bound;
  op.add_special_values = add_special_values;
  op.variants = {{"rows", "cpp", kernel_source("norms/rmsnorm/rmsnorm.cpu.cpp"), "mlx_kd_rmsnorm",
                  "cpu_rows", space, launch_cpu_rows},
                 {"rows", "metal", kernel_source("norms/rmsnorm/rmsnorm.metal"), "mlx_kd_rmsnorm",
                  "metal_rows", metal_space, launch_metal_rows}};
  op.variants.back().body = {"rmsnorm_rows_tg", [](const Dims& dims, int64_t group, int64_t) {
                               return dims.at("rows") * group;
                             }};
  return op;
}

}  // namespace mlx_kd::kernels
