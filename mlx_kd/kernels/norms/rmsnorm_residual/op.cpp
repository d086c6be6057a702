#include <cmath>
#include <limits>

#include "mlx_kd/kernels/common/suites.h"
#include "mlx_kd/kernels/norms/model_sizes.h"
#include "mlx_kd/kernels/norms/norm_reference.h"
#include "mlx_kd/kernels/norms/rmsnorm_residual/mlx_form.h"
#include "mlx_kd/kernels/norms/rows.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_rmsnorm_residual();

namespace rmsnorm_residual {
namespace {

using spec::Dims;
using spec::Dtype;

spec::ErrorBound bound(const Dims& dims) {
  return {norm_roundings(dims.at("D")),
          "updated is rounded to the type, which an element of y meets twice: in x and in the mean "
          "square; x scale and the product with w are rounded; all four are charged on |y|. The "
          "scale is float32: half of 6 "
          "sqrt(D) for a sum of D squares (Higham and Mary 2019, theorem 2.4) and 8 for the other "
          "steps."};
}

// A sum of two stored numbers has a relative error of one rounding however much cancels: one to the
// type and one in float32, so S is scaled down to leave it one of the bound's.
spec::Reference64 sum_reference(const std::vector<const void*>& inputs, Dtype dtype, int64_t count,
                                double accumulated) {
  spec::Reference64 sum;
  const std::vector<double> x = load_all(inputs[0], count, dtype);
  const std::vector<double> residual = load_all(inputs[1], count, dtype);
  for (size_t i = 0; i < x.size(); ++i) {
    const double y = x[i] + residual[i];
    append(sum, {y, std::fabs(y), std::fabs(y) / accumulated, underflow(dtype)});
  }
  saturate(sum, dtype, accumulated);
  return sum;
}

std::vector<spec::Reference64> reference(const std::vector<const void*>& inputs, Dtype dtype,
                                         const Dims& dims, const std::vector<double>& params) {
  const int64_t d = dims.at("D");
  const double accumulated = bound(dims).accumulated;
  spec::Reference64 updated = sum_reference(inputs, dtype, dims.at("rows") * d, accumulated);
  spec::Reference64 y =
      norm_reference(updated.y, load_all(inputs[2], d, dtype), params[0], dtype, 4, accumulated);
  return {std::move(y), std::move(updated)};
}

spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double> params,
                          const mlx::core::Stream& s) {
  auto [y, updated] = rmsnorm_residual_in_mlx(in[0], in[1], in[2], params[0], s);
  return {std::move(y), std::move(updated)};
}

spec::Space space(Dtype dtype, const spec::DeviceTraits& traits) {
  return cpu_rows_space(dtype, traits, true);
}

spec::Space metal_space(Dtype dtype, const spec::DeviceTraits&) {
  return metal_rows_space(dtype, true);
}

void add_special_values(const std::vector<void*>& inputs, Dtype dtype, const Dims& dims) {
  const int64_t rows = dims.at("rows"), d = dims.at("D");
  const auto put = [&](int port, int64_t at, double value) {
    spec::store_element(inputs[static_cast<size_t>(port)], at, dtype, static_cast<float>(value));
  };
  for (int64_t row = 0; row < rows && row < kSpecialRows; ++row)
    write_special_row(inputs[0], row, d, dtype);
  for (int64_t j = 0; j < d && rows > 2; ++j) put(1, 2 * d + j, -0.0);
  if (rows > 4) {  // infinities that cancel, and a sum beyond the type
    put(0, 4 * d, std::numeric_limits<double>::infinity());
    put(1, 4 * d, -std::numeric_limits<double>::infinity());
  }
  if (rows > 5) {
    put(0, 5 * d, spec::largest_finite(dtype));
    put(1, 5 * d, spec::largest_finite(dtype));
  }
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "A residual sum and its norm, in one pass. updated = x + residual, y = rmsnorm(updated, "
      "weight, eps).";
  doc.parameters = {{"x", "[..., D], at least one axis."},
                    {"residual", "Shape as x."},
                    {"weight", "[D]."},
                    {"eps", "Positive."}};
  doc.returns = "y and updated, shapes as x.";
  doc.errors = "If shapes or eps do not fit; the message shows both shapes.";
  return doc;
}

}  // namespace
}  // namespace rmsnorm_residual

spec::Op make_rmsnorm_residual() {
  using namespace rmsnorm_residual;
  spec::Op op;
  op.name = "rmsnorm_residual";
  op.summary = "updated = rounded(x + residual); y = rmsnorm(updated, w, eps) by rows";
  op.doc = doc();
  op.inputs = {{"inp", rows_by_d}, {"residual", rows_by_d}, {"weight", one_row}};
  op.outputs = {{"out", rows_by_d}, {"updated_res", rows_by_d}};
  op.dims = {rows_dim(), {"D"}};
  op.batch_dim = "rows";
  op.edge_sizes = rows_edges();
  op.scalars = {eps_scalar()};
  op.suites = {rows_suite("glm_flash_small", kPrefillRows, 2048),
               rows_suite("glm_flash_decode", kDecodeRows, 2048),
               rows_suite("qwen30b_decode", kDecodeRows, 2048),
               rows_suite("lfm2_decode", kDecodeRows, 2048)};
  op.of_model = [](const spec::ModelConfig& config) {
    return std::vector<spec::ModelSizes>{hidden_norm(config)};
  };
  op.cost = [](const Dims& dims, Dtype dtype) {
    const auto d = static_cast<double>(dims.at("D")), n = d * static_cast<double>(dims.at("rows"));
    return spec::Cost{(4 * n + d) * static_cast<double>(spec::size_of(dtype)), 5 * n};
  };
  op.mlx = mlx_form;
  op.reference = reference;
  op.bound = bound;
  op.add_special_values = add_special_values;
  op.variants = {{"rows", "cpp", kernel_source("norms/rmsnorm_residual/rmsnorm_residual.cpu.cpp"),
                  "mlx_kd_rmsnorm_residual", "cpu_rows", space, launch_cpu_rows},
                 {"rows", "metal", kernel_source("norms/rmsnorm_residual/rmsnorm_residual.metal"),
                  "mlx_kd_rmsnorm_residual", "metal_rows", metal_space, launch_metal_rows}};
  op.variants.back().body = {
      "rmsnorm_residual_rows_tg",
      [](const Dims& dims, int64_t group, int64_t) { return dims.at("rows") * group; }};
  return op;
}

}  // namespace mlx_kd::kernels
