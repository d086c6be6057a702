#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/common/cache_rows.h"
#include "mlx_kd/kernels/common/model_sizes.h"
#include "mlx_kd/kernels/common/reference64.h"
#include "mlx_kd/kernels/common/suites.h"
#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/positions/normed_heads.h"

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

std::function<Shape(const Dims&)> rows_of(const char* heads, const char* rows, const char* width) {
  return [heads, rows, width](const Dims& dims) {
    return Shape{dims.at("B"), dims.at(heads), dims.at(rows), dims.at(width)};
  };
}

void check_shape(const char* name, const spec::ArrayView& array, std::array<int64_t, 4> wanted) {
  bool fits = array.shape.size() == 4;
  for (size_t i = 0; i < 4 && fits; ++i) fits = array.shape[i] == wanted[i];
  if (!fits)
    throw std::invalid_argument("[" + std::string(kName) + "] " + name + " has shape " +
                                shape_text(array.shape) + ": it must be " + shape_text(wanted) +
                                ", as q, keys and values say");
}

void signature(std::span<const spec::ArrayView> in, std::span<const double>,
               std::span<int64_t> dims) {
  constexpr const char* kPorts[] = {"keys", "values", "q"};
  for (const PortIndex port : {kKeys, kValues, kQ})
    if (in[port].shape.size() != 4)
      throw std::invalid_argument("[" + std::string(kName) + "] " + kPorts[port] + " has shape " +
                                  shape_text(in[port].shape) + ": give 4 axes, (B, H, rows, D)");
  const auto keys = in[kKeys].shape, q = in[kQ].shape;
  dims[kS] = keys[2], dims[kHk] = keys[1], dims[kDv] = in[kValues].shape[3];
  dims[kB] = q[0], dims[kHq] = q[1], dims[kM] = q[2], dims[kD] = q[3];
  check_shape("keys", in[kKeys], {dims[kB], dims[kHk], dims[kS], dims[kD]});
  check_shape("values", in[kValues], {dims[kB], dims[kHk], dims[kS], dims[kDv]});
  check_shape("k", in[kK], {dims[kB], dims[kHk], dims[kM], dims[kD]});
  check_shape("v", in[kV], {dims[kB], dims[kHk], dims[kM], dims[kDv]});
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

int64_t count_of(const Dims& dims, const char* heads, const char* rows, const char* width) {
  return spec::element_count(rows_of(heads, rows, width)(dims));
}

void fill(const spec::FillRequest& request) {
  const Dims& dims = request.dims;
  const auto& to = request.inputs;
  spec::FillRequest plain = request;
  plain.distribution = spec::Distribution::normal;
  fill_rows(plain, to[kKeys], count_of(dims, "Hk", "S", "D"), kKeys);
  fill_rows(plain, to[kValues], count_of(dims, "Hk", "S", "Dv"), kValues);
  fill_rows(request, to[kQ], count_of(dims, "Hq", "M", "D"), kQ);
  fill_rows(request, to[kK], count_of(dims, "Hk", "M", "D"), kK);
  fill_rows(plain, to[kV], count_of(dims, "Hk", "M", "Dv"), kV);
  base::Random random(request.seed * 37 + static_cast<uint64_t>(request.distribution));
  fill_offsets(request, kOffset, random);
  for (int64_t i = 0; i < offset_shape(dims).front(); ++i) {  // they are positions too
    const int64_t place = spec::load_integer(to[kOffset], i, Dtype::int32);
    spec::store_integer(to[kOffset], i, Dtype::int32,
                        std::clamp<int64_t>(place, -7, dims.at("S") + 3));
  }
  fill_head_weights(request, kOffset);
}

void put(const spec::Reference64& from, int64_t at, int64_t count, spec::Reference64& to,
         int64_t place) {
  const auto copy = [&](const std::vector<double>& some, std::vector<double>& all) {
    std::copy_n(some.begin() + at, count, all.begin() + place);
  };
  copy(from.y, to.y);
  copy(from.rounded, to.rounded);
  copy(from.terms, to.terms);
  copy(from.absolute, to.absolute);
}

// The cache with the new keys; what is not written keeps its value.
spec::Reference64 updated_keys(const std::vector<const void*>& in, Dtype dtype, const Dims& dims,
                               const spec::Reference64& added) {
  const int64_t width = dims.at("D"), s = dims.at("S"), m = dims.at("M"), heads = dims.at("Hk");
  spec::Reference64 result;
  for (const double y : load_all(in[kKeys], count_of(dims, "Hk", "S", "D"), dtype))
    append(result, {y, 0, 0});
  for (int64_t head = 0; head < dims.at("B") * heads; ++head)
    if (const int64_t first = first_row(in[kOffset], dims, head / heads); first >= 0)
      put(added, head * m * width, m * width, result, (head * s + first) * width);
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

// Rows that are read and written; of the cache the new ones alone.
spec::Cost cost(const Dims& dims, Dtype dtype) {
  const int64_t weights = (dims.at("has_wq") + dims.at("has_wk")) * dims.at("D");
  const int64_t turned = count_of(dims, "Hq", "M", "D") + count_of(dims, "Hk", "M", "D");
  spec::Cost cost = rotary_cost(dims, turned, weights, dtype);
  cost.bytes += static_cast<double>(2 * count_of(dims, "Hk", "M", "Dv") * spec::size_of(dtype));
  return cost;
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
  std::vector<spec::Port> ports = {
      {"keys", rows_of("Hk", "S", "D")},
      {"values", rows_of("Hk", "S", "Dv")},
      {.name = "q", .shape = rows_of("Hq", "M", "D"), .strided = true},
      {.name = "k", .shape = rows_of("Hk", "M", "D"), .strided = true},
      {.name = "v", .shape = rows_of("Hk", "M", "Dv"), .strided = true},
      offset_port()};
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
  op.outputs = {{"keys_out", rows_of("Hk", "S", "D"), {}, Judge::bound, "keys"},
                {"values_out", rows_of("Hk", "S", "Dv"), {}, Judge::exact, "values"},
                {"q_out", rows_of("Hq", "M", "D")}};
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
  op.cost = cost;
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
