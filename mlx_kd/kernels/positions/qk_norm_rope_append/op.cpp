#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/common/cache_rows.h"
#include "mlx_kd/kernels/common/model_sizes.h"
#include "mlx_kd/kernels/common/reference64.h"
#include "mlx_kd/kernels/common/suites.h"
#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/positions/appended_heads.h"

namespace mlx_kd::kernels {

spec::Op make_qk_norm_rope_append();

namespace qk_norm_rope_append {
namespace {

using spec::Dims;
using spec::Dtype;
using spec::Shape;

constexpr const char* kName = "qk_norm_rope_append";

enum DimIndex {
  kS,
  kB,
  kHq,
  kHk,
  kM,
  kD,
  kDv,
  kDims,
  kTraditional,
  kRagged,
  kHasFreqs,
  kHasWq,
  kHasWk
};
enum PortIndex { kKeys, kValues, kQ, kK, kV, kOffset, kWq, kWk, kFreqs };

constexpr const char* kPorts[] = {"keys", "values", "q", "k", "v"};
constexpr PortShapes kShapes = {kName, kPorts, "q, keys and values say"};

void signature(std::span<const spec::ArrayView> in, std::span<const double>,
               std::span<int64_t> dims) {
  for (const PortIndex port : {kKeys, kValues, kQ})
    if (in[port].shape.size() != 4)
      throw std::invalid_argument("[" + std::string(kName) + "] " + kPorts[port] + " has shape " +
                                  shape_text(in[port].shape) + ": give 4 axes, (B, H, rows, D)");
  const auto keys = in[kKeys].shape, q = in[kQ].shape;
  dims[kS] = keys[2], dims[kHk] = keys[1], dims[kDv] = in[kValues].shape[3];
  dims[kB] = q[0], dims[kHq] = q[1], dims[kM] = q[2], dims[kD] = q[3];
  kShapes.check(kKeys, in[kKeys], {dims[kB], dims[kHk], dims[kS], dims[kD]});
  kShapes.check(kValues, in[kValues], {dims[kB], dims[kHk], dims[kS], dims[kDv]});
  kShapes.check(kK, in[kK], {dims[kB], dims[kHk], dims[kM], dims[kD]});
  kShapes.check(kV, in[kV], {dims[kB], dims[kHk], dims[kM], dims[kDv]});
  read_heads(kName, in, kOffset, q[0], q[3],
             {{dims[kDims], dims[kRagged], dims[kHasFreqs]}, dims[kHasWq], dims[kHasWk]});
}

spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double> numbers,
                          const mlx::core::Stream& s) {
  const MlxRotation by = head_rotation(in, kOffset, numbers);
  const mlx::core::array k = heads_in_mlx(in[kK], in[kWk], numbers[0], by, s);
  spec::Op::Arrays result = append_in_mlx({in[kKeys], in[kValues]}, {k, in[kV]}, in[kOffset], s);
  result.push_back(heads_in_mlx(in[kQ], in[kWq], numbers[0], by, s));
  return result;
}

void fill(const spec::FillRequest& request) {
  const Dims& dims = request.dims;
  const auto& to = request.inputs;
  spec::FillRequest plain = request;
  plain.distribution = spec::Distribution::normal;
  const int64_t rows = dims.at("B") * dims.at("Hk") * dims.at("S");
  fill_rows(plain, to[kKeys], rows * dims.at("D"), kKeys);
  fill_rows(plain, to[kValues], rows * dims.at("Dv"), kValues);
  fill_new_heads(request, kQ);
  base::Random random(request.seed * 37 + static_cast<uint64_t>(request.distribution));
  fill_offsets(request, kOffset, random);
  for (int64_t i = 0; i < offset_shape(dims).front(); ++i) {  // they are positions too
    const int64_t place = spec::load_integer(to[kOffset], i, Dtype::int32);
    spec::store_integer(to[kOffset], i, Dtype::int32,
                        std::clamp<int64_t>(place, -7, dims.at("S") + 3));
  }
  fill_head_weights(request, kOffset);
}

// The cache with the new keys; what is not written keeps its value.
spec::Reference64 updated_keys(const std::vector<const void*>& in, Dtype dtype, const Dims& dims,
                               const spec::Reference64& added) {
  const int64_t width = dims.at("D"), s = dims.at("S"), m = dims.at("M"), heads = dims.at("Hk");
  spec::Reference64 result;
  for (const double y : load_all(in[kKeys], dims.at("B") * heads * s * width, dtype))
    append(result, {y, 0, 0});
  for (int64_t head = 0; head < dims.at("B") * heads; ++head)
    if (const int64_t first = first_row(in[kOffset], dims, head / heads); first >= 0)
      put_elements(added, head * m * width, m * width, result, (head * s + first) * width);
  return result;
}

std::vector<spec::Reference64> reference(const std::vector<const void*>& in, Dtype dtype,
                                         const Dims& dims, const std::vector<double>& scalars) {
  const HeadReference made(in, kOffset, dtype, dims, scalars);
  return {updated_keys(in, dtype, dims, made.keys(kK)), {}, made.queries(kQ)};
}

// The values, which are copied.
void exact(const std::vector<const void*>& in, Dtype t, const Dims& dims,
           const std::vector<double>&, const std::vector<void*>& outputs) {
  const int64_t row = dims.at("Dv") * spec::size_of(t), s = dims.at("S"), m = dims.at("M");
  auto* const to = static_cast<std::byte*>(outputs[kValues]);
  const auto* const from = static_cast<const std::byte*>(in[kV]);
  std::memcpy(to, in[kValues], static_cast<size_t>(dims.at("B") * dims.at("Hk") * s * row));
  for (int64_t head = 0; head < dims.at("B") * dims.at("Hk"); ++head)
    if (const int64_t first = first_row(in[kOffset], dims, head / dims.at("Hk")); first >= 0)
      std::memcpy(to + (head * s + first) * row, from + head * m * row,
                  static_cast<size_t>(m * row));
}

Dims size(int64_t s, int64_t b, int64_t hq, int64_t hk, int64_t m, int64_t d, int64_t dv = 0) {
  return {{"S", s},
          {"B", b},
          {"Hq", hq},
          {"Hk", hk},
          {"M", m},
          {"D", d},
          {"Dv", dv > 0 ? dv : d},
          {"dims", 0},
          {"traditional", 0},
          {"ragged", 0},
          {"has_freqs", 0},
          {"has_wq", 0},
          {"has_wk", 0}};
}

// S is 4096, twice and four times that: the counts of tokens multiply it.
std::vector<spec::ModelSizes> model_sizes(const spec::ModelConfig& config) {
  const int64_t heads = attention_heads(config, "the heads that are rotated");
  if (config.has("kv_lora_rank"))
    base::misuse("kernels", "the config of " + config.origin() +
                                " has latent attention (kv_lora_rank), whose cache has other "
                                "rows: give --shapes");
  const int64_t width = head_width(config, heads), norms = norms_heads(config);
  return {{"model",
           "num_attention_heads queries and num_key_value_heads keys of head_dim, a token at a "
           "time, for caches of multiples of 4096 keys",
           {{"B", 1},
            {"Hq", heads},
            {"Hk", key_heads(config, heads)},
            {"M", 1},
            {"D", width},
            {"Dv", width},
            {"dims", config.count("rotary_dim")},
            {"traditional", 0},
            {"ragged", 0},
            {"has_freqs", has_own_frequencies(config)},
            {"has_wq", norms},
            {"has_wk", norms}},
           4096,
           true}};
}

std::vector<Dims> edge_sizes() {
  return {size(1, 1, 1, 1, 1, 2),
          with(with(size(9, 3, 2, 1, 5, 22, 7), kNormed), {{"ragged", 1}, {"dims", 14}}),
          with(size(4, 2, 3, 2, 4, 75), {{"traditional", 1}, {"dims", 70}, {"has_wk", 1}}),
          with(with(size(12, 1, 5, 2, 3, 128, 64), kNormed), {{"has_freqs", 1}}),
          with(with(size(17, 2, 1, 1, 7, 96), kNormed), {{"traditional", 1}, {"ragged", 1}}),
          with(size(5, 2, 4, 4, 2, 40, 129), {{"has_freqs", 1}, {"has_wq", 1}})};
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "qk_norm_rope with the cache: queries and keys of a step of attention are normed where there "
      "is a weight, and rotated, and the keys and the values are written into a contiguous cache, "
      "in place, in one call. Row t of batch row b has position offset[b] + t, which is also its "
      "row in the cache. The memory of the cache is reused if nothing else holds it, and copied "
      "otherwise.";
  doc.parameters = {
      {"keys", "[B, Hk, S, D], the cache"},
      {"values", "[B, Hk, S, Dv], the cache"},
      {"q", "[B, Hq, M, D], of any strides whose last is 1"},
      {"k", "[B, Hk, M, D], likewise"},
      {"v", "[B, Hk, M, Dv], likewise"},
      {"offset",
       "int32 [1] for all batch rows, or [B]; or an int. A batch row whose offset is negative or "
       "above S - M is not written"}};
  for (const spec::DocLine& parameter : head_parameters()) doc.parameters.push_back(parameter);
  doc.returns = "The updated keys and values, and q rotated, of its shape and type.";
  doc.errors =
      "Shapes that do not go together; dims that is odd or above D; an int offset that is negative "
      "or above S - M.";
  return doc;
}

std::vector<spec::Port> inputs() {
  std::vector<spec::Port> ports = {{"keys", shape_of({"B", "Hk", "S", "D"})},
                                   {"values", shape_of({"B", "Hk", "S", "Dv"})}};
  for (const spec::Port& port : new_head_ports()) ports.push_back(port);
  ports.push_back(offset_port());
  for (const spec::Port& port : head_ports()) ports.push_back(port);
  return ports;
}

std::vector<spec::Dim> dims_of_op() {
  std::vector<spec::Dim> dims = {
      {.name = "S", .free = true}, {"B"}, {"Hq"}, {"Hk"}, {"M"}, {"D"}, {"Dv"}};
  for (const spec::Dim& attribute : head_attributes()) dims.push_back(attribute);
  return dims;
}

spec::Space cuda_space(Dtype, const spec::DeviceTraits&) {
  spec::Space space;
  space.knobs = {{"WARPS",
                  {4, 1, 2, 8},
                  spec::KnobScale::log2,
                  spec::KnobRole::source,
                  "warps of a block, each with a row"}};
  return space;
}

spec::Launch launch_in_cuda(const Dims& dims, const spec::Setting& knobs) {
  const int64_t warps = knobs.at("WARPS");
  const int64_t rows = dims.at("B") * (dims.at("Hq") + 2 * dims.at("Hk")) * dims.at("M");
  spec::Launch launch;
  launch.group = {32 * warps, 1, 1};
  launch.grid = {divide_up(rows, warps) * 32 * warps, 1, 1};
  return launch;
}

}  // namespace
}  // namespace qk_norm_rope_append

spec::Op make_qk_norm_rope_append() {
  using namespace qk_norm_rope_append;
  using spec::Judge;
  spec::Op op;
  op.name = kName;
  op.summary = "qk_norm_rope whose keys are written into a cache with the values, in place";
  op.doc = doc();
  op.inputs = inputs();
  op.outputs = {{"keys_out", shape_of({"B", "Hk", "S", "D"}), {}, Judge::bound, "keys"},
                {"values_out", shape_of({"B", "Hk", "S", "Dv"}), {}, Judge::exact, "values"},
                {"q_out", shape_of({"B", "Hq", "M", "D"})}};
  op.dims = dims_of_op();
  op.batch_dim = "S";
  op.scalars = {eps_scalar(), rotary_base(), rotary_scale()};
  op.suites = {{"decode",
                {size(1024, 1, 32, 4, 1, 64), with(size(1024, 1, 32, 8, 1, 128), kNormed),
                 with(size(1024, 4, 32, 8, 1, 128), {{"ragged", 1}})}},
               {"prompt", {with(size(1024, 1, 32, 8, 512, 128), kNormed)}}};
  op.edge_sizes = edge_sizes();
  op.complete = complete_heads;
  op.signature = signature;
  op.of_model = qk_norm_rope_append::model_sizes;
  op.cost = cost_of_append;
  op.mlx = mlx_form;
  op.fill = fill;
  op.reference = reference;
  op.exact = exact;
  op.bound = bound_of_heads;
  op.variants = {
      {"positions", "cpp",
       kernel_source("positions/qk_norm_rope_append/qk_norm_rope_append.cpu.cpp"),
       "mlx_kd_qk_norm_rope_append", "cpp_arguments", cpu_rotary_space, launch_cpu_rotary},
      {"rows", "metal", kernel_source("positions/qk_norm_rope_append/qk_norm_rope_append.metal"),
       "mlx_kd_qk_norm_rope_append", "metal_flat", metal_rotary_space,
       [](const Dims& dims, const spec::Setting& knobs) {
         return launch_metal_rotary(dims, dims.at("Hq") + 2 * dims.at("Hk"), knobs);
       }},
      {"warps", "cuda", kernel_source("positions/qk_norm_rope_append/qk_norm_rope_append.cu"),
       "mlx_kd_qk_norm_rope_append", "cuda_arguments", cuda_space, launch_in_cuda}};
  return op;
}

}  // namespace mlx_kd::kernels
