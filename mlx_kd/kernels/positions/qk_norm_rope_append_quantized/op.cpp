#include <mlx/ops.h>

#include <algorithm>
#include <iterator>

#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/common/cache_rows.h"
#include "mlx_kd/kernels/common/suites.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/positions/coded_heads.h"

namespace mlx_kd::kernels {

spec::Op make_qk_norm_rope_append_quantized();

namespace qk_norm_rope_append_quantized {
namespace {

using spec::ArrayView;
using spec::Dims;
using spec::Dtype;
using spec::Shape;
namespace mx = mlx::core;

constexpr const char* kName = "qk_norm_rope_append_quantized";
constexpr const char* kPorts[] = {
    "key_codes", "key_scales", "key_biases", "value_codes", "value_scales", "value_biases",
    "q",         "k",          "v",          "row",         "offset"};

enum PortIndex { kRow = kCodedV + 1, kOffset, kWq, kWk, kFreqs };
enum DimIndex {
  kS,
  kB,
  kHq,
  kHk,
  kM,
  kD,
  kDvIndex,
  kDims,
  kTraditional,
  kBits,
  kGroup,
  kRagged,
  kHasFreqs,
  kHasWq,
  kHasWk
};

constexpr PortShapes kShapes = {kName, kPorts, "q, k and key_codes say"};

void signature(std::span<const ArrayView> in, std::span<const double>, std::span<int64_t> dims) {
  check_code(kName, dims[kBits], dims[kGroup]);
  for (const size_t port : {size_t(0), kCodedQ, kCodedK, kCodedV})
    if (in[port].shape.size() != 4)
      kShapes.refuse(port, in[port], "of 4 axes: (B, H, rows, width)");
  const auto q = in[kCodedQ].shape;
  dims[kB] = q[0], dims[kHq] = q[1], dims[kM] = q[2], dims[kD] = q[3];
  dims[kHk] = in[kCodedK].shape[1], dims[kDvIndex] = in[kCodedV].shape[3],
  dims[kS] = in[0].shape[2];
  kShapes.check(kCodedK, in[kCodedK], {dims[kB], dims[kHk], dims[kM], dims[kD]});
  kShapes.check(kCodedV, in[kCodedV], {dims[kB], dims[kHk], dims[kM], dims[kDvIndex]});
  check_coded_cache(
      kShapes, in,
      {dims[kB], dims[kHk], dims[kS], dims[kD], dims[kDvIndex], dims[kBits], dims[kGroup]});
  if (in[kRow].shape.size() != 1 || in[kRow].shape[0] != 1) kShapes.refuse(kRow, in[kRow], "(1)");
  read_heads(kName, in, kOffset, q[0], q[3],
             {{dims[kDims], dims[kRagged], dims[kHasFreqs]}, dims[kHasWq], dims[kHasWk]});
}

spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double> numbers,
                          const mx::Stream& s) {
  const int bits = static_cast<int>(numbers[5]), group = static_cast<int>(numbers[6]);
  const MlxRotation by = head_rotation(in, kOffset, numbers);
  const mx::array k = heads_in_mlx(in[kCodedK], in[kWk], numbers[0], by, s);
  spec::Op::Arrays added = mx::quantize(k, group, bits, "affine", {}, s);
  for (const mx::array& one : mx::quantize(in[kCodedV], group, bits, "affine", {}, s))
    added.push_back(one);
  spec::Op::Arrays result = append_in_mlx({in.begin(), in.begin() + 6}, added, in[kRow], s);
  result.push_back(heads_in_mlx(in[kCodedQ], in[kWq], numbers[0], by, s));
  return result;
}

// --- proof ---

CodedPlaces places_of(const void* row, const Dims& dims) {
  const int64_t first = spec::load_integer(row, 0, Dtype::int32), added = dims.at("M");
  const int64_t heads = dims.at("B") * dims.at("Hk"), length = dims.at("S");
  const bool fits = first >= 0 && first <= length - added;
  CodedPlaces places = {heads * length, {}};
  for (int64_t head = 0; head < heads; ++head)
    for (int64_t m = 0; m < added; ++m)
      places.of_new.push_back(fits ? head * length + first + m : -1);
  return places;
}

void fill(const spec::FillRequest& request) {
  const Dims& dims = request.dims;
  base::Random random(request.seed * 173 + static_cast<uint64_t>(request.distribution));
  fill_coded_append(request, kOffset, dims.at("B") * dims.at("Hk") * dims.at("S"), random);
  const int64_t last = dims.at("S") - dims.at("M");
  const int64_t wrong[] = {-1, last + 1, INT32_MIN, INT32_MAX};
  const bool fits =
      last >= 0 && (request.distribution != spec::Distribution::special || request.seed % 2 == 0);
  const auto places = static_cast<uint64_t>(std::max<int64_t>(last, 0)) + 1;
  spec::store_integer(
      request.inputs[kRow], 0, Dtype::int32,
      fits ? static_cast<int64_t>(random.below(places)) : wrong[random.below(std::size(wrong))]);
}

std::vector<spec::Reference64> reference(const std::vector<const void*>& in, Dtype dtype,
                                         const Dims& dims, const std::vector<double>& scalars) {
  return turned_queries(in, kOffset, dtype, dims, scalars);
}

void exact(const std::vector<const void*>& in, Dtype t, const Dims& dims,
           const std::vector<double>&, const std::vector<void*>& outputs) {
  append_coded_values(in, t, dims, places_of(in[kRow], dims), outputs);
}

std::vector<spec::Residual> residuals(const spec::JudgedCase& judged) {
  return residuals_of_coded_keys(judged, kOffset, places_of(judged.inputs[kRow], judged.dims));
}

// --- kernels ---

spec::Variant metal_variant() {
  spec::Variant variant;
  variant.name = "rows";
  variant.language = "metal";
  variant.source =
      kernel_source("positions/qk_norm_rope_append_quantized/qk_norm_rope_append_quantized.metal");
  variant.func_name = std::string("mlx_kd_") + kName;
  variant.launch_kind = "metal_rows";
  variant.space = metal_coded_space;
  variant.stages = [](const Dims& dims, const spec::Setting& knobs) {
    return metal_coded_stages(std::string("mlx_kd_") + kName, dims, knobs);
  };
  return variant;
}

// --- sizes ---

Dims size(int64_t s, int64_t b, int64_t hq, int64_t hk, int64_t m, int64_t d, int64_t bits = 8,
          int64_t group = 64) {
  return {
      {"S", s},         {"B", b},      {"Hq", hq},    {"Hk", hk},         {"M", m},
      {"D", d},         {"Dv", d},     {"dims", 0},   {"traditional", 0}, {"ragged", 0},
      {"has_freqs", 0}, {"has_wq", 0}, {"has_wk", 0}, {"bits", bits},     {"group_size", group}};
}

std::vector<Dims> edge_sizes() {
  return {size(1, 1, 1, 1, 1, 32, 8, 32),
          with(with(size(9, 3, 2, 1, 5, 64, 4, 32), kNormed), {{"ragged", 1}, {"dims", 14}}),
          with(size(4, 2, 3, 2, 4, 128, 8, 128), {{"traditional", 1}, {"dims", 70}, {"has_wk", 1}}),
          with(with(size(12, 1, 5, 2, 3, 128), kNormed), {{"has_freqs", 1}, {"Dv", 64}}),
          with(size(5, 2, 4, 4, 2, 96, 4, 32), {{"has_freqs", 1}, {"has_wq", 1}, {"Dv", 192}})};
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "qk_norm_rope_append for a cache of codes: queries and keys of a step of attention are "
      "normed where there is a weight, and rotated, and the keys and the values are quantised into "
      "the cache, in place, each group of a row by the affine rule of mx.quantize, in one call. "
      "Row t of batch row b has position offset[b] + t, and goes to row row + t of the cache. The "
      "memory of the cache is reused if nothing else holds it, and copied otherwise.";
  doc.parameters = {{"key_codes", "uint32 [B, Hk, S, D bits / 32], the cache"},
                    {"key_scales", "[B, Hk, S, D / group_size]"},
                    {"key_biases", "[B, Hk, S, D / group_size]"},
                    {"value_codes", "uint32 [B, Hk, S, Dv bits / 32]; Dv may differ from D"},
                    {"value_scales", "[B, Hk, S, Dv / group_size]"},
                    {"value_biases", "[B, Hk, S, Dv / group_size]"},
                    {"q", "[B, Hq, M, D], of any strides whose last is 1"},
                    {"k", "[B, Hk, M, D], finite, likewise"},
                    {"v", "[B, Hk, M, Dv], finite, likewise"},
                    {"row",
                     "int32 [1], or an int: where the first new row goes. Nothing is written to "
                     "the cache where it is negative or above S - M"},
                    {"offset", "int32 [1] for all batch rows, or [B]; or an int: positions"}};
  for (const spec::DocLine& parameter : head_parameters()) doc.parameters.push_back(parameter);
  doc.parameters.push_back({"bits", "4 or 8"});
  doc.parameters.push_back({"group_size", "32, 64 or 128: a divisor of D and Dv"});
  doc.returns = "The six updated arrays of the cache, and q rotated, of its shape and type.";
  doc.errors =
      "Shapes that do not go together; other bits and groups; heads wider than 1024; dims that is "
      "odd or above D; an int row that is negative or above S - M.";
  return doc;
}

std::vector<spec::Port> inputs() {
  std::vector<spec::Port> ports = coded_cache_ports(false);
  for (const spec::Port& port : new_head_ports()) ports.push_back(port);
  ports.push_back(
      {.name = "row",
       .shape = [](const Dims&) { return Shape{1}; },
       .type = Dtype::int32,
       .int_range =
           [](const Dims& dims) { return std::pair(int64_t(0), dims.at("S") - dims.at("M")); }});
  ports.push_back(rotary_offset());
  for (const spec::Port& port : head_ports()) ports.push_back(port);
  return ports;
}

std::vector<spec::Dim> dims_of_op() {
  std::vector<spec::Dim> dims = {
      {.name = "S", .free = true}, {"B"}, {"Hq"}, {"Hk"}, {"M"}, {"D"}, {"Dv"}};
  for (const spec::Dim& attribute : coded_head_attributes()) dims.push_back(attribute);
  return dims;
}

}  // namespace
}  // namespace qk_norm_rope_append_quantized

spec::Op make_qk_norm_rope_append_quantized() {
  using namespace qk_norm_rope_append_quantized;
  spec::Op op;
  op.name = kName;
  op.summary = "qk_norm_rope whose keys are quantised into a cache with the values, in place";
  op.doc = doc();
  op.inputs = inputs();
  op.outputs = coded_cache_outputs(false);
  op.dims = dims_of_op();
  op.batch_dim = "S";
  op.scalars = {eps_scalar(), rotary_base(), rotary_scale()};
  op.suites = {{"decode",
                {size(1024, 1, 32, 8, 1, 128), with(size(1024, 1, 32, 4, 1, 64), kNormed),
                 with(size(1024, 4, 32, 8, 1, 128), {{"ragged", 1}})}},
               {"prompt", {size(1024, 1, 32, 8, 512, 128)}}};
  op.edge_sizes = edge_sizes();
  op.complete = complete_coded_heads;
  op.signature = signature;
  op.cost = cost_of_coded_append;
  op.mlx = mlx_form;
  op.fill = fill;
  op.reference = reference;
  op.exact = exact;
  op.residuals = residuals;
  op.bound = bound_of_heads;
  op.variants = {{"positions", "cpp",
                  kernel_source("positions/qk_norm_rope_append_quantized/"
                                "qk_norm_rope_append_quantized.cpu.cpp"),
                  "mlx_kd_qk_norm_rope_append_quantized", "cpp_arguments", cpu_rotary_space,
                  launch_cpu_rotary},
                 metal_variant()};
  return op;
}

}  // namespace mlx_kd::kernels
