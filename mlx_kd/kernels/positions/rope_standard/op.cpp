#include <algorithm>
#include <limits>
#include <stdexcept>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/common/model_sizes.h"
#include "mlx_kd/kernels/common/reference64.h"
#include "mlx_kd/kernels/common/suites.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/positions/rotary.h"

namespace mlx_kd::kernels {

spec::Op make_rope_standard();

namespace rope_standard {
namespace {

using spec::Dims;
using spec::Dtype;

enum DimIndex { kM, kB, kH, kD, kDims, kTraditional, kRagged, kHasFreqs };

spec::Shape rows(const Dims& dims) {
  return {dims.at("B"), dims.at("H"), dims.at("M"), dims.at("D")};
}

void signature(std::span<const spec::ArrayView> in, std::span<const double>,
               std::span<int64_t> dims) {
  const auto x = in[0].shape;
  if (x.size() != 4)
    throw std::invalid_argument("[rope_standard] x has shape " + shape_text(x) +
                                ": give 4 axes, (B, H, M, D)");
  dims[kB] = x[0], dims[kH] = x[1], dims[kM] = x[2], dims[kD] = x[3];
  read_rotary("rope_standard", {x[0], x[3], in[1].shape, in[2].shape},
              {dims[kDims], dims[kRagged], dims[kHasFreqs]});
}

spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double> numbers,
                          const mlx::core::Stream& s) {
  MlxRotation by = {
      static_cast<int>(numbers[2]), numbers[3] > 0, numbers[0], numbers[1], in[1], {}};
  if (!is_left_out(in[2])) by.freqs = in[2];
  return {rotated_in_mlx(in[0], by, s)};
}

spec::ErrorBound bound(const Dims&) {
  return {kRotaryRoundings, kRotaryDerivation};
}

void fill(const spec::FillRequest& request) {
  fill_rows(request, request.inputs[0], spec::element_count(rows(request.dims)), 0);
  fill_offsets(request, request.inputs[1]);
  fill_freqs(request, request.inputs[2]);
}

std::vector<spec::Reference64> reference(const std::vector<const void*>& in, Dtype dtype,
                                         const Dims& dims, const std::vector<double>& scalars) {
  const RotaryNumbers numbers = {0,
                                 scalars[0],
                                 scalars[1],
                                 in[1],
                                 dims.at("has_freqs") ? in[2] : nullptr,
                                 bound(dims).accumulated};
  return {rotated_in_float64(
      {load_all(in[0], spec::element_count(rows(dims)), dtype), {}, dims.at("H")}, numbers, dtype,
      dims)};
}

std::vector<spec::ModelSizes> model_sizes(const spec::ModelConfig& config) {
  const int64_t heads = attention_heads(config, "the heads that are rotated");
  if (config.has("kv_lora_rank"))
    base::misuse("kernels", "the config of " + config.origin() +
                                " has latent attention (kv_lora_rank), whose keys rope packs: give "
                                "--shapes");
  const int64_t width = head_width(config, heads), keys = key_heads(config, heads);
  const auto size = [&](const std::string& name, const std::string& what, int64_t count) {
    return spec::ModelSizes{name,
                            what + ", a position each token",
                            {{"B", 1},
                             {"H", count},
                             {"D", width},
                             {"dims", config.count("rotary_dim")},
                             {"traditional", 0},
                             {"ragged", 0},
                             {"has_freqs", has_own_frequencies(config)}}};
  };
  std::vector<spec::ModelSizes> result = {
      size("model", "num_attention_heads queries of head_dim", heads)};
  if (keys != heads) result.push_back(size("keys", "num_key_value_heads keys of head_dim", keys));
  return result;
}

Dims size(int64_t b, int64_t h, int64_t m, int64_t d, int64_t dims = 0) {
  return {{"M", m},       {"B", b},           {"H", h},      {"D", d},
          {"dims", dims}, {"traditional", 0}, {"ragged", 0}, {"has_freqs", 0}};
}

// Halves and rests within vectors, two elements, offsets by batch row, frequencies.
std::vector<Dims> edge_sizes() {
  return {size(1, 1, 1, 2),
          with(size(1, 1, 1, 2), {{"traditional", 1}}),
          with(size(3, 2, 5, 22, 14), {{"ragged", 1}}),
          with(size(2, 3, 4, 75, 70), {{"traditional", 1}, {"ragged", 1}}),
          with(size(1, 5, 3, 128), {{"has_freqs", 1}}),
          with(size(2, 1, 7, 96, 32), {{"traditional", 1}, {"has_freqs", 1}})};
}

spec::Cost cost(const Dims& dims, Dtype dtype) {
  return rotary_cost(dims, spec::element_count(rows(dims)), 0, dtype);
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "Rotary position embedding, as mx.fast.rope. Row t of batch row b has position offset[b] + "
      "t, "
      "and pair i of it is turned by position * scale * base^(-2i / dims). Angles are more exact "
      "than MLX's, and the result is rounded once.";
  doc.parameters = {
      {"x", "[B, H, M, D], of any strides whose last is 1"},
      {"offset", "int32 [1] for all batch rows, or [B]; or an int"},
      {"freqs", "float32 [dims / 2]: pair i is turned by position * scale / freqs[i]"},
      {"base", "Of the frequencies, above 1; not used with freqs"},
      {"scale", "Of the positions"},
      {"dims", "The first elements of a row that are turned, an even number; 0: all"},
      {"traditional", "1: pairs are (2i, 2i + 1), 0: (i, i + dims / 2)"}};
  doc.returns = "Shape and type as x.";
  doc.errors = "Shapes that do not go together; dims that is odd or above D.";
  return doc;
}

}  // namespace
}  // namespace rope_standard

spec::Op make_rope_standard() {
  using namespace rope_standard;
  spec::Op op;
  op.name = "rope_standard";
  op.summary = "rotary position embedding of heads";
  op.doc = doc();
  op.inputs = {
      {.name = "x", .shape = rows, .strided = true},
      rotary_offset(),
      {.name = "freqs", .shape = freqs_shape_of, .type = Dtype::float32, .optional = true}};
  op.outputs = {{"y", rows}};
  op.dims = {{.name = "M", .free = true}, {"B"}, {"H"}, {"D"}};
  for (const spec::Dim& attribute : rotary_attributes()) op.dims.push_back(attribute);
  op.batch_dim = "M";
  op.scalars = {rotary_base(), rotary_scale()};
  op.suites = {{"decode", {size(1, 32, 1, 64), size(1, 8, 1, 128), size(4, 32, 1, 128)}},
               {"prompt", {size(1, 32, 128, 64), size(1, 32, 512, 128)}}};
  op.edge_sizes = edge_sizes();
  op.complete = complete_rotary;
  op.signature = signature;
  op.of_model = rope_standard::model_sizes;
  op.cost = cost;
  op.mlx = mlx_form;
  op.fill = fill;
  op.reference = reference;
  op.bound = bound;
  op.variants = {
      {"positions", "cpp", kernel_source("positions/rope_standard/rope_standard.cpu.cpp"),
       "mlx_kd_rope_standard", "cpp_arguments", cpu_rotary_space, launch_cpu_rotary},
      {"rows", "metal", kernel_source("positions/rope_standard/rope_standard.metal"),
       "mlx_kd_rope_standard", "metal_flat", metal_rotary_space,
       [](const Dims& dims, const spec::Setting& knobs) {
         return launch_metal_rotary(dims, dims.at("H"), knobs);
       }}};
  return op;
}

}  // namespace mlx_kd::kernels
