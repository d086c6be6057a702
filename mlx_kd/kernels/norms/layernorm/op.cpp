#include <mlx/fast.h>

#include <cmath>
#include <limits>
#include <optional>
#include <stdexcept>

#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/common/metal_space.h"
#include "mlx_kd/kernels/common/shapes.h"
#include "mlx_kd/kernels/common/suites.h"
#include "mlx_kd/kernels/norms/model_sizes.h"
#include "mlx_kd/kernels/norms/norm_reference.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_layernorm();

namespace layernorm {
namespace {

using spec::Dims;
using spec::Dtype;
using spec::Shape;
namespace mx = mlx::core;

enum DimIndex { kRows, kD, kHasWeight, kHasBias };

std::function<Shape(const Dims&)> row_if(const char* attribute) {
  return [attribute](const Dims& dims) { return Shape{dims.at(attribute) ? dims.at("D") : 0}; };
}

bool is_given(const char* name, std::span<const int32_t> row, std::span<const int32_t> x) {
  if (row.size() == 1 && row[0] == 0) return false;
  if (row.size() != 1 || row[0] != x.back())
    throw std::invalid_argument("[layernorm] " + std::string(name) + " has shape " +
                                shape_text(row) + ": it must be (" + std::to_string(x.back()) +
                                "), as x has shape " + shape_text(x));
  return true;
}

void signature(std::span<const spec::ArrayView> in, std::span<const double>,
               std::span<int64_t> dims) {
  const auto x = in[0].shape;
  if (x.empty())
    throw std::invalid_argument("[layernorm] inp has shape (): it must have at least 1 axis");
  dims[kRows] = 1;
  for (size_t i = 0; i + 1 < x.size(); ++i) dims[kRows] *= x[i];
  dims[kD] = x.back();
  dims[kHasWeight] = is_given("weight", in[1].shape, x);
  dims[kHasBias] = is_given("bias", in[2].shape, x);
}

Dims complete(const Dims& dims) {
  Dims result = dims;
  for (const char* row : {"has_weight", "has_bias"}) result.set(row, dims.at(row) > 0);
  return result;
}

spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double> numbers,
                          const mx::Stream& s) {
  const auto given = [](const mx::array& row) {
    return row.ndim() == 1 && row.shape(0) == 0 ? std::nullopt : std::optional(row);
  };
  return {
      mx::fast::layer_norm(in[0], given(in[1]), given(in[2]), static_cast<float>(numbers[0]), s)};
}

spec::ErrorBound bound(const Dims& dims) {
  return {
      6 * std::sqrt(static_cast<double>(dims.at("D"))) + 16,
      "The result is rounded once. In float32: 6 sqrt(D) for a sum of D elements (Higham and Mary "
      "2019, theorem 2.4), of which the scale takes half, and 16 for the other steps. S is |w| "
      "scale (|x - mean| + the mean of |x|) + |b|."};
}

// A row in float64.
void add_row(const double* x, const std::vector<double>& w, const std::vector<double>& b,
             double eps, Dtype dtype, spec::Reference64& result) {
  const auto d = static_cast<double>(w.size());
  double mean = 0, size = 0, square = 0;
  for (size_t j = 0; j < w.size(); ++j) mean += x[j] / d, size += std::fabs(x[j]) / d;
  for (size_t j = 0; j < w.size(); ++j) square += (x[j] - mean) * (x[j] - mean) / d;
  const double scale = 1 / std::sqrt(square + eps);
  for (size_t j = 0; j < w.size(); ++j) {
    const double rest = x[j] - mean, y = rest * scale * w[j] + b[j];
    append(result,
           {y, std::fabs(y), std::fabs(w[j]) * scale * (std::fabs(rest) + size) + std::fabs(b[j]),
            underflow(dtype) * (2 + std::fabs(w[j]) * (1 + scale))});
  }
}

std::vector<spec::Reference64> reference(const std::vector<const void*>& inputs, Dtype dtype,
                                         const Dims& dims, const std::vector<double>& scalars) {
  const int64_t d = dims.at("D");
  const auto row_of = [&](size_t port, const char* attribute, double otherwise) {
    return dims.at(attribute) ? load_all(inputs[port], d, dtype)
                              : std::vector<double>(static_cast<size_t>(d), otherwise);
  };
  const std::vector<double> w = row_of(1, "has_weight", 1), b = row_of(2, "has_bias", 0);
  const std::vector<double> x = load_all(inputs[0], dims.at("rows") * d, dtype);
  const double eps = static_cast<float>(scalars[0]);
  spec::Reference64 result;
  for (size_t row = 0; row < x.size(); row += w.size()) add_row(&x[row], w, b, eps, dtype, result);
  saturate(result, dtype, bound(dims).accumulated);
  return {std::move(result)};
}

spec::Space cpu_space(Dtype dtype, const spec::DeviceTraits& traits) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Space space;
  space.knobs = {vector_knob(traits),
                 {"ACC", {4, 1, 2, 8}, log2, source, "steps summed independently"},
                 {"UNROLL", {4, 1, 2, 8}, log2, source, "steps a turn of the scaling loop"}};
  if (is_x86(traits))
    space.knobs.push_back(
        {"RSQRT", {0, 1}, choice, source, "how the scale is found", {"divide", "estimate"}});
  add_rounding_knob(space, dtype, traits);
  add_thread_knobs(space, traits, {8, 1, 2, 4, 16, 32}, "rows");
  return space;
}

spec::Space metal_space(Dtype, const spec::DeviceTraits&) {
  spec::Space space;
  space.knobs = {{"THREADS",
                  {256, 32, 64, 128, 512, 1024},
                  spec::KnobScale::log2,
                  spec::KnobRole::source,
                  "threads of a row"},
                 fast_knob("reciprocal square root")};
  return space;
}

spec::Launch launch_metal(const Dims& dims, const spec::Setting& knobs) {
  spec::Launch launch;
  launch.group[0] = knobs.at("THREADS");
  launch.grid[0] = dims.at("rows") * knobs.at("THREADS");
  return launch;
}

void add_special_values(const std::vector<void*>& inputs, Dtype dtype, const Dims& dims) {
  const int64_t rows = dims.at("rows"), d = dims.at("D");
  for (int64_t row = 0; row < rows && row < kSpecialRows; ++row)
    write_special_row(inputs[0], row, d, dtype);
  if (dims.at("has_weight")) spec::store_element(inputs[1], d - 1, dtype, -0.0f);
}

Dims size(int64_t rows, int64_t d, int64_t weight = 1, int64_t bias = 1) {
  return {{"rows", rows}, {"D", d}, {"has_weight", weight}, {"has_bias", bias}};
}

spec::Cost cost(const Dims& dims, Dtype dtype) {
  const int64_t d = dims.at("D"), n = dims.at("rows") * d;
  const int64_t elements = 2 * n + (dims.at("has_weight") + dims.at("has_bias")) * d;
  return {static_cast<double>(elements * spec::size_of(dtype)), 8 * static_cast<double>(n)};
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "Layer norm over the last axis, as mx.fast.layer_norm: y = (x - mean) * rsqrt(variance + "
      "eps) "
      "* weight + bias, in float32 with one rounding.";
  doc.parameters = {{"x", "[..., D], at least one axis"},
                    {"weight", "[D]"},
                    {"bias", "[D]"},
                    {"eps", "Positive"}};
  doc.returns = "Shape and type as x.";
  doc.errors = "If a shape or eps does not fit; the message shows both shapes.";
  return doc;
}

std::vector<spec::ModelSizes> model_sizes(const spec::ModelConfig& config) {
  spec::ModelSizes model = hidden_norm(config);
  model.dims.set("has_weight", 1);
  model.dims.set("has_bias", 1);
  return {model};
}

}  // namespace
}  // namespace layernorm

spec::Op make_layernorm() {
  using namespace layernorm;
  const auto attribute = spec::Dim::Kind::attribute;
  spec::Op op;
  op.name = "layernorm";
  op.summary = "y = (x - mean) * rsqrt(variance + eps) * w + b by rows";
  op.doc = doc();
  op.inputs = {{"inp", rows_by_d},
               {.name = "weight", .shape = row_if("has_weight"), .optional = true},
               {.name = "bias", .shape = row_if("has_bias"), .optional = true}};
  op.outputs = {{"out", rows_by_d}};
  op.dims = {rows_dim(),
             {"D"},
             {.name = "has_weight", .kind = attribute},
             {.name = "has_bias", .kind = attribute}};
  op.batch_dim = "rows";
  op.scalars = {{"eps", 1e-5, {1e-5, 1e-6}, 0, std::numeric_limits<double>::max(), true}};
  op.suites = {{"decode", {size(1, 4096), size(4, 4096)}}, {"prefill", {size(128, 4096)}}};
  op.edge_sizes = {size(1, 1), size(3, 7, 1, 0), size(17, 64, 0, 0), size(7, 75, 0, 1),
                   size(2, 2049, 1, 1)};
  op.complete = complete;
  op.signature = signature;
  op.of_model = layernorm::model_sizes;
  op.cost = cost;
  op.mlx = mlx_form;
  op.reference = reference;
  op.bound = bound;
  op.add_special_values = add_special_values;
  op.variants = {{"rows", "cpp", kernel_source("norms/layernorm/layernorm.cpu.cpp"),
                  "mlx_kd_layernorm", "cpu_rows", cpu_space,
                  [](const Dims& dims, const spec::Setting& knobs) {
                    return share_units(dims.at("rows"), knobs);
                  }},
                 {"rows", "metal", kernel_source("norms/layernorm/layernorm.metal"),
                  "mlx_kd_layernorm", "metal_rows", metal_space, launch_metal}};
  return op;
}

}  // namespace mlx_kd::kernels
