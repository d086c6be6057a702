#include <limits>
#include <stdexcept>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/common/model_sizes.h"
#include "mlx_kd/kernels/common/reference64.h"
#include "mlx_kd/kernels/common/suites.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/positions/normed_heads.h"

namespace mlx_kd::kernels {

spec::Op make_qk_norm_rope();

namespace qk_norm_rope {
namespace {

using spec::Dims;
using spec::Dtype;
using spec::Shape;

enum DimIndex { kM, kB, kHq, kHk, kD, kDims, kTraditional, kRagged, kHasFreqs, kHasWq, kHasWk };
enum PortIndex { kQ, kK, kOffset, kWq, kWk, kFreqs };

std::function<Shape(const Dims&)> rows_of(const char* heads) {
  return [heads](const Dims& dims) {
    return Shape{dims.at("B"), dims.at(heads), dims.at("M"), dims.at("D")};
  };
}

[[noreturn]] void refuse(const std::string& what) {
  throw std::invalid_argument("[qk_norm_rope] " + what);
}

void signature(std::span<const spec::ArrayView> in, std::span<const double>,
               std::span<int64_t> dims) {
  const auto q = in[kQ].shape, k = in[kK].shape;
  if (q.size() != 4) refuse("q has shape " + shape_text(q) + ": give 4 axes, (B, Hq, M, D)");
  if (k.size() != 4 || q[0] != k[0] || q[2] != k[2] || q[3] != k[3])
    refuse("k has shape " + shape_text(k) + ": it must be (B, Hk, M, D), as q has shape " +
           shape_text(q));
  dims[kB] = q[0], dims[kHq] = q[1], dims[kHk] = k[1], dims[kM] = q[2], dims[kD] = q[3];
  read_heads("qk_norm_rope", in, kOffset, q[0], q[3],
             {{dims[kDims], dims[kRagged], dims[kHasFreqs]}, dims[kHasWq], dims[kHasWk]});
}

spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double> numbers,
                          const mlx::core::Stream& s) {
  const MlxRotation by = head_rotation(in, kOffset, numbers);
  return {heads_in_mlx(in[kQ], in[kWq], numbers[0], by, s),
          heads_in_mlx(in[kK], in[kWk], numbers[0], by, s)};
}

void fill(const spec::FillRequest& request) {
  const Dims& dims = request.dims;
  for (const PortIndex port : {kQ, kK})
    fill_rows(request, request.inputs[port],
              spec::element_count(rows_of(port == kQ ? "Hq" : "Hk")(dims)), port);
  fill_offsets(request, request.inputs[kOffset]);
  fill_head_weights(request, kOffset);
}

std::vector<spec::Reference64> reference(const std::vector<const void*>& in, Dtype dtype,
                                         const Dims& dims, const std::vector<double>& scalars) {
  const HeadReference made(in, kOffset, dtype, dims, scalars);
  return {made.queries(kQ), made.keys(kK)};
}

Dims size(int64_t b, int64_t hq, int64_t hk, int64_t m, int64_t d) {
  return {{"M", m},         {"B", b},      {"Hq", hq},         {"Hk", hk},
          {"D", d},         {"dims", 0},   {"traditional", 0}, {"ragged", 0},
          {"has_freqs", 0}, {"has_wq", 0}, {"has_wk", 0}};
}

std::vector<spec::ModelSizes> model_sizes(const spec::ModelConfig& config) {
  const int64_t heads = attention_heads(config, "the heads that are rotated");
  if (config.has("kv_lora_rank"))
    base::misuse("kernels", "the config of " + config.origin() +
                                " has latent attention (kv_lora_rank), whose keys rope packs: give "
                                "--shapes");
  const int64_t norms = norms_heads(config);
  return {{"model",
           "num_attention_heads queries and num_key_value_heads keys of head_dim, a position each "
           "token",
           {{"B", 1},
            {"Hq", heads},
            {"Hk", key_heads(config, heads)},
            {"D", head_width(config, heads)},
            {"dims", config.count("rotary_dim")},
            {"traditional", 0},
            {"ragged", 0},
            {"has_freqs", has_own_frequencies(config)},
            {"has_wq", norms},
            {"has_wk", norms}},
           1,
           false,
           {attention_layers(config), attention_layers(config)}}};
}

std::vector<Dims> edge_sizes() {
  return {size(1, 1, 1, 1, 2),
          with(with(size(3, 2, 1, 5, 22), kNormed), {{"ragged", 1}, {"dims", 14}}),
          with(size(2, 3, 2, 4, 75), {{"traditional", 1}, {"dims", 70}, {"has_wk", 1}}),
          with(with(size(1, 5, 2, 3, 128), kNormed), {{"has_freqs", 1}}),
          with(with(size(2, 1, 1, 7, 96), kNormed), {{"traditional", 1}, {"ragged", 1}}),
          with(size(2, 4, 4, 2, 40), {{"has_freqs", 1}, {"has_wq", 1}})};
}

spec::Cost cost(const Dims& dims, Dtype dtype) {
  const int64_t weights = (dims.at("has_wq") + dims.at("has_wk")) * dims.at("D");
  return rotary_cost(
      dims, spec::element_count(rows_of("Hq")(dims)) + spec::element_count(rows_of("Hk")(dims)),
      weights, dtype);
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "Queries and keys of a step of attention: an rmsnorm of each head where there is a weight, "
      "then rotary position embedding, as mx.fast.rms_norm and mx.fast.rope, in one call. Row t of "
      "batch row b has position offset[b] + t, and pair i of it is turned by position * scale * "
      "base^(-2i / dims). Nothing is rounded but the results.";
  doc.parameters = {{"q", "[B, Hq, M, D], of any strides whose last is 1"},
                    {"k", "[B, Hk, M, D], likewise"},
                    {"offset", "int32 [1] for all batch rows, or [B]; or an int"}};
  for (const spec::DocLine& parameter : head_parameters()) doc.parameters.push_back(parameter);
  doc.returns = "q and k, of their shapes and type.";
  doc.errors = "Shapes that do not go together; dims that is odd or above D.";
  return doc;
}

}  // namespace
}  // namespace qk_norm_rope

spec::Op make_qk_norm_rope() {
  using namespace qk_norm_rope;
  spec::Op op;
  op.name = "qk_norm_rope";
  op.summary =
      "rmsnorm of each head, if there are weights, and rotary embedding of queries and keys";
  op.doc = doc();
  op.inputs = {{.name = "q", .shape = rows_of("Hq"), .strided = true},
               {.name = "k", .shape = rows_of("Hk"), .strided = true},
               rotary_offset()};
  for (const spec::Port& port : head_ports()) op.inputs.push_back(port);
  op.outputs = {{"q_out", rows_of("Hq")}, {"k_out", rows_of("Hk")}};
  op.dims = {{.name = "M", .free = true}, {"B"}, {"Hq"}, {"Hk"}, {"D"}};
  for (const spec::Dim& attribute : head_attributes()) op.dims.push_back(attribute);
  op.batch_dim = "M";
  op.scalars = {eps_scalar(), rotary_base(), rotary_scale()};
  op.suites = {
      {"decode",
       {size(1, 32, 4, 1, 64), with(size(1, 32, 8, 1, 128), kNormed), size(4, 32, 8, 1, 128)}},
      {"prompt", {size(1, 32, 4, 128, 64), with(size(1, 32, 8, 512, 128), kNormed)}}};
  op.edge_sizes = edge_sizes();
  op.complete = complete_heads;
  op.signature = signature;
  op.of_model = qk_norm_rope::model_sizes;
  op.cost = cost;
  op.mlx = mlx_form;
  op.fill = fill;
  op.reference = reference;
  op.bound = bound_of_heads;
  op.variants = {{"positions", "cpp", kernel_source("positions/qk_norm_rope/qk_norm_rope.cpu.cpp"),
                  "mlx_kd_qk_norm_rope", "cpp_arguments", cpu_rotary_space, launch_cpu_rotary},
                 {"rows", "metal", kernel_source("positions/qk_norm_rope/qk_norm_rope.metal"),
                  "mlx_kd_qk_norm_rope", "metal_flat", metal_rotary_space,
                  [](const Dims& dims, const spec::Setting& knobs) {
                    return launch_metal_rotary(dims, dims.at("Hq") + dims.at("Hk"), knobs);
                  }}};
  return op;
}

}  // namespace mlx_kd::kernels
