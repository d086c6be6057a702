#include <stdexcept>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/common/cache_rows.h"
#include "mlx_kd/kernels/common/suites.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/positions/appended_heads.h"
#include "mlx_kd/kernels/positions/qk_norm_rope_append_quantized/judge.h"

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
constexpr int64_t kWidest = 1024;  // the Metal kernel keeps a row in threadgroup memory

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

std::string wrong_width(const char* name, int64_t width, int64_t group) {
  if (width % group == 0 && width <= kWidest) return "";
  return std::string(name) + " is " + std::to_string(width) +
         " wide: give a multiple of group_size, " + std::to_string(group) + ", of at most " +
         std::to_string(kWidest);
}

Dims complete(const Dims& dims) {
  const int64_t group = dims.at("group_size");
  std::string wrong = wrong_code(dims.at("bits"), group);
  for (const char* width : {"D", "Dv"})
    if (wrong.empty()) wrong = wrong_width(width, dims.at(width), group);
  if (!wrong.empty()) base::misuse("kernels", wrong);
  return complete_heads(dims);
}

constexpr PortShapes kShapes = {kName, kPorts, "q, k and key_codes say"};

void check_cache(std::span<const ArrayView> in, std::span<const int64_t> dims) {
  const int64_t bits = dims[kBits], group = dims[kGroup];
  for (const size_t part : {0, 3}) {
    const int64_t width = dims[part == 0 ? kD : kDvIndex];
    const auto wrong = wrong_width(part == 0 ? "k" : "v", width, group);
    if (!wrong.empty()) throw std::invalid_argument("[" + std::string(kName) + "] " + wrong);
    kShapes.check(part, in[part], {dims[kB], dims[kHk], dims[kS], width * bits / 32});
    for (const size_t more : {part + 1, part + 2})
      kShapes.check(more, in[more], {dims[kB], dims[kHk], dims[kS], width / group});
  }
}

void signature(std::span<const ArrayView> in, std::span<const double>, std::span<int64_t> dims) {
  if (const std::string wrong = wrong_code(dims[kBits], dims[kGroup]); !wrong.empty())
    throw std::invalid_argument("[" + std::string(kName) + "] " + wrong);
  for (const size_t port : {size_t(0), size_t(kQ), size_t(kK), size_t(kV)})
    if (in[port].shape.size() != 4)
      kShapes.refuse(port, in[port], "of 4 axes: (B, H, rows, width)");
  const auto q = in[kQ].shape;
  dims[kB] = q[0], dims[kHq] = q[1], dims[kM] = q[2], dims[kD] = q[3];
  dims[kHk] = in[kK].shape[1], dims[kDvIndex] = in[kV].shape[3], dims[kS] = in[0].shape[2];
  kShapes.check(kK, in[kK], {dims[kB], dims[kHk], dims[kM], dims[kD]});
  kShapes.check(kV, in[kV], {dims[kB], dims[kHk], dims[kM], dims[kDvIndex]});
  check_cache(in, dims);
  if (in[kRow].shape.size() != 1 || in[kRow].shape[0] != 1) kShapes.refuse(kRow, in[kRow], "(1)");
  read_heads(kName, in, kOffset, q[0], q[3],
             {{dims[kDims], dims[kRagged], dims[kHasFreqs]}, dims[kHasWq], dims[kHasWk]});
}

spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double> numbers,
                          const mx::Stream& s) {
  const int bits = static_cast<int>(numbers[5]), group = static_cast<int>(numbers[6]);
  const MlxRotation by = head_rotation(in, kOffset, numbers);
  const mx::array k = heads_in_mlx(in[kK], in[kWk], numbers[0], by, s);
  spec::Op::Arrays added = mx::quantize(k, group, bits, "affine", {}, s);
  for (const mx::array& one : mx::quantize(in[kV], group, bits, "affine", {}, s))
    added.push_back(one);
  spec::Op::Arrays result = append_in_mlx({in.begin(), in.begin() + 6}, added, in[kRow], s);
  result.push_back(heads_in_mlx(in[kQ], in[kWq], numbers[0], by, s));
  return result;
}

spec::Cost cost(const Dims& dims, Dtype dtype) {
  const int64_t weights = (dims.at("has_wq") + dims.at("has_wk")) * dims.at("D");
  const int64_t rows = dims.at("B") * dims.at("M"), element = spec::size_of(dtype);
  const int64_t queries = rows * dims.at("Hq") * dims.at("D");
  const int64_t added = rows * dims.at("Hk") * (dims.at("D") + dims.at("Dv"));
  spec::Cost cost = rotary_cost(dims, queries, weights, dtype);
  cost.bytes += static_cast<double>(added * element + added * dims.at("bits") / 8 +
                                    2 * element * added / dims.at("group_size"));
  cost.flops += static_cast<double>(6 * added);
  return cost;
}

// --- kernels ---

spec::Space metal_space(Dtype, const spec::DeviceTraits&) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Space space;
  space.knobs = {{"ROWS", {1, 2, 4}, log2, source, "keys and values of a threadgroup"},
                 {"QUERIES", {1, 2, 4, 8}, log2, launch, "queries of a threadgroup"}};
  return space;
}

std::vector<spec::Stage> metal_stages(const Dims& dims, const spec::Setting& knobs) {
  // Threadgroups are whole: of as many rows as the knob says, or half of them, and so on.
  const auto launch = [](int64_t rows, int64_t most) {
    while (rows % most) most /= 2;
    spec::Launch made;
    made.group[0] = 32 * most, made.grid[0] = 32 * rows;
    return made;
  };
  const int64_t rows = dims.at("B") * dims.at("M");
  const spec::Launch queries = launch(rows * dims.at("Hq"), knobs.at("QUERIES"));
  const spec::Launch keys = launch(rows * 2 * dims.at("Hk"), knobs.at("ROWS"));
  return {{std::string("mlx_kd_") + kName + "_queries", queries},
          {std::string("mlx_kd_") + kName, keys}};
}

spec::Variant metal_variant() {
  spec::Variant variant;
  variant.name = "rows";
  variant.language = "metal";
  variant.source =
      kernel_source("positions/qk_norm_rope_append_quantized/qk_norm_rope_append_quantized.metal");
  variant.func_name = std::string("mlx_kd_") + kName;
  variant.launch_kind = "metal_rows";
  variant.space = metal_space;
  variant.stages = metal_stages;
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

std::vector<spec::Port> cache_ports() {
  std::vector<spec::Port> ports;
  for (const bool value : {false, true}) {
    const char* width = value ? "Dv" : "D";
    const size_t first = value ? 3 : 0;
    ports.push_back({.name = kPorts[first], .shape = codes_of("Hk", width), .type = Dtype::uint32});
    ports.push_back({kPorts[first + 1], groups_of("Hk", width)});
    ports.push_back({kPorts[first + 2], groups_of("Hk", width)});
  }
  return ports;
}

std::vector<spec::Port> inputs() {
  std::vector<spec::Port> ports = cache_ports();
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

std::vector<spec::Port> outputs() {
  std::vector<spec::Port> ports = cache_ports();
  for (size_t i = 0; i < ports.size(); ++i) {
    ports[i].updates = ports[i].name;
    ports[i].name += "_out";
    ports[i].judge = i < 3 ? spec::Judge::residuals : spec::Judge::exact;
  }
  ports.push_back({"q_out", shape_of({"B", "Hq", "M", "D"})});
  return ports;
}

std::vector<spec::Dim> dims_of_op() {
  const auto attribute = spec::Dim::Kind::attribute;
  std::vector<spec::Dim> dims = {
      {.name = "S", .free = true}, {"B"}, {"Hq"}, {"Hk"}, {"M"}, {"D"}, {"Dv"}};
  for (const spec::Dim& one : head_attributes()) {
    dims.push_back(one);
    if (one.name != "traditional") continue;  // those that a caller gives come first
    dims.push_back({.name = "bits", .kind = attribute, .default_value = 8});
    dims.push_back({.name = "group_size", .kind = attribute, .default_value = 64});
  }
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
  op.outputs = outputs();
  op.dims = dims_of_op();
  op.batch_dim = "S";
  op.scalars = {eps_scalar(), rotary_base(), rotary_scale()};
  op.suites = {{"decode",
                {size(1024, 1, 32, 8, 1, 128), with(size(1024, 1, 32, 4, 1, 64), kNormed),
                 with(size(1024, 4, 32, 8, 1, 128), {{"ragged", 1}})}},
               {"prompt", {size(1024, 1, 32, 8, 512, 128)}}};
  op.edge_sizes = edge_sizes();
  op.complete = complete;
  op.signature = signature;
  op.cost = cost;
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
