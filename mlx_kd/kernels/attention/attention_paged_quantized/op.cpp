#include <mlx/ops.h>

#include <algorithm>
#include <stdexcept>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/attention/attention_paged_quantized/judge.h"
#include "mlx_kd/kernels/attention/coded_keys.h"
#include "mlx_kd/kernels/attention/key_parts.h"
#include "mlx_kd/kernels/common/affine_rows.h"
#include "mlx_kd/kernels/common/metal_space.h"
#include "mlx_kd/kernels/common/shapes.h"
#include "mlx_kd/kernels/common/suites.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_attention_paged_quantized();

namespace attention_paged_quantized {
namespace {

namespace mx = mlx::core;
using spec::ArrayView;
using spec::Dims;
using spec::Dtype;

enum DimIndex { kW, kP, kL, kB, kHq, kHk, kM, kDk, kDv, kBits, kGroup };

constexpr const char* kName = "attention_paged_quantized";
constexpr const char* kPorts[] = {"q",           "key_codes",    "key_scales",   "key_biases",
                                  "value_codes", "value_scales", "value_biases", "table"};
constexpr PortShapes kShapes = {kName, kPorts, "q and key_codes say"};

Dims complete(const Dims& dims) {
  attention::check_head_counts(dims);
  const std::string wrong = attention::wrong_coded_heads(dims.at("bits"), dims.at("group_size"),
                                                         dims.at("Dk"), dims.at("Dv"));
  if (!wrong.empty()) base::misuse("kernels", wrong);
  return dims;
}

void check_pages(std::span<const ArrayView> in, std::span<const int64_t> dims) {
  for (const PortIndex codes : {kKeyCodes, kValueCodes}) {
    const int64_t width = dims[codes == kKeyCodes ? kDk : kDv];
    kShapes.check(codes, in[codes], {dims[kP], dims[kHk], dims[kL], width * dims[kBits] / 32});
    for (const int more : {codes + 1, codes + 2})
      kShapes.check(static_cast<size_t>(more), in[static_cast<size_t>(more)],
                    {dims[kP], dims[kHk], dims[kL], width / dims[kGroup]});
  }
}

void signature(std::span<const ArrayView> in, std::span<const double>, std::span<int64_t> dims) {
  for (const PortIndex port : {kQ, kKeyCodes, kValueScales})
    if (in[port].shape.size() != 4)
      kShapes.refuse(port, in[port], port == kQ ? "(B, Hq, M, Dk)" : "(P, Hk, L, width)");
  if (in[kTable].shape.size() != 2) kShapes.refuse(kTable, in[kTable], "(B, W)");
  const auto q = in[kQ].shape, codes = in[kKeyCodes].shape;
  dims[kB] = q[0], dims[kHq] = q[1], dims[kM] = q[2], dims[kDk] = q[3];
  dims[kP] = codes[0], dims[kHk] = codes[1], dims[kL] = codes[2];
  dims[kDv] = in[kValueScales].shape[3] * dims[kGroup], dims[kW] = in[kTable].shape[1];
  const std::string wrong =
      attention::wrong_coded_heads(dims[kBits], dims[kGroup], dims[kDk], dims[kDv]);
  if (!wrong.empty()) throw std::invalid_argument("[" + std::string(kName) + "] " + wrong);
  if (dims[kHk] == 0 || dims[kHq] % dims[kHk] != 0)
    kShapes.refuse(kKeyCodes, in[kKeyCodes],
                   "of a number of heads that divides the " + std::to_string(q[1]) + " of q");
  check_pages(in, dims);
  attention::check_places(kName, kPlaces, in, dims[kB], dims[kW]);
}

// Codes are gathered, then made numbers.
spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double> numbers,
                          const mx::Stream& s) {
  const mx::array& q = in[kQ];
  const int bits = static_cast<int>(numbers[1]), group = static_cast<int>(numbers[2]);
  const int pages = in[kKeyCodes].shape(0), length = in[kKeyCodes].shape(2);
  const int width = in[kValueScales].shape(3) * group;
  if (pages == 0 || in[kTable].size() == 0 || length == 0 || q.size() == 0)
    return {mx::zeros({q.shape(0), q.shape(1), q.shape(2), width}, q.dtype(), s)};
  const mx::array table = attention::nearest_pages(in[kTable], pages, s);
  const auto rows = [&](int codes) {
    const auto part = [&](int more) {
      return attention::gathered(in[static_cast<size_t>(codes + more)], table, s);
    };
    return mx::dequantize(part(0), part(1), part(2), group, bits, "affine", {}, {}, s);
  };
  return {attention::attend_in_mlx(in, kPlaces, pages, length, rows(kKeyCodes), rows(kValueCodes),
                                   numbers[0], s)};
}

// --- kernels ---

spec::Variant cpu_variant() {
  spec::Variant variant;
  variant.name = "blocks";
  variant.language = "cpp";
  variant.source =
      kernel_source("attention/attention_paged_quantized/attention_paged_quantized.cpu.cpp");
  variant.func_name = "mlx_kd_attention_paged_quantized";
  variant.launch_kind = "cpp_arguments";
  variant.space = [](Dtype dtype, const spec::DeviceTraits& traits) {
    spec::Space space = attention::coded_space(dtype, traits, {128, 256, 512, 1024, 2048});
    space.knobs.push_back({"HEADS",
                           {8, 1, 2, 4},
                           spec::KnobScale::log2,
                           spec::KnobRole::source,
                           "key heads of a unit"});
    return space;
  };
  variant.stages = [](const Dims& dims, const spec::Setting& knobs) {
    return attention::stages_over_keys("mlx_kd_attention_paged_quantized",
                                       attention::as_attention(dims), knobs);
  };
  variant.scratch = [](Dtype, const Dims& dims, const spec::Setting& knobs) {
    return attention::scratch_of_parts(attention::as_attention(dims), knobs, dims.at("Dv"));
  };
  return variant;
}

// --- sizes ---

Dims size(int64_t w, int64_t l, int64_t hq, int64_t hk, int64_t m, int64_t d, int64_t bits,
          int64_t group, int64_t b = 1) {
  return {{"W", w}, {"P", b * w}, {"L", l},  {"B", b},       {"Hq", hq},           {"Hk", hk},
          {"M", m}, {"Dk", d},    {"Dv", d}, {"bits", bits}, {"group_size", group}};
}

std::vector<spec::Suite> suites() {
  return {
      {"llama_decode", {size(16, 32, 32, 8, 1, 128, 8, 64), size(128, 32, 32, 8, 1, 128, 8, 64)}},
      {"small_decode", {size(128, 32, 32, 4, 1, 64, 4, 32)}},
      {"decode_batches", {size(32, 32, 32, 8, 1, 128, 8, 64, 4)}}};
}

// One key, pages of one row, rows that fill no block, pages that no block fills, fewer keys than
// queries.
std::vector<Dims> edge_sizes() {
  return {size(1, 1, 1, 1, 1, 32, 8, 32),
          size(7, 1, 6, 2, 3, 64, 4, 32),
          with(size(3, 5, 3, 1, 5, 128, 8, 64, 3), {{"Dv", 64}}),
          with(size(9, 16, 9, 1, 1, 64, 8, 64, 4), {{"P", 5}}),
          size(2, 4, 4, 4, 9, 128, 4, 128, 2),
          size(17, 70, 8, 2, 1, 96, 4, 32)};
}

spec::Cost cost(const Dims& dims, Dtype dtype) {
  const auto of = [&](const char* name) { return static_cast<double>(dims.at(name)); };
  const auto element = static_cast<double>(spec::size_of(dtype));
  const double rows = of("B") * of("Hq") * of("M"), width = of("Dk") + of("Dv");
  const double row = width * (of("bits") / 8 + 2 * element / of("group_size"));
  const double pages = std::min(of("B") * of("W"), of("P"));  // rows of a batch may share some
  return {element * width * rows + pages * of("L") * of("Hk") * row + 4 * of("B") * (of("W") + 2),
          2 * rows * of("W") * of("L") * width};
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "Attention over keys and values that are quantised, in pages: softmax(scale q k^T) v for "
      "each head, with k and v = scale code + bias in groups, as mx.quantize makes them. Key j of "
      "batch row b is row j % L of page table[b, j / L]. Query t sees the keys from begins[b] up "
      "to ends[b] - M + t, so the last query sees all up to ends[b]; a query that sees none gives "
      "zeros. Elements are made in registers, never stored. Hq / Hk query heads share each key "
      "head; scores, softmax and sums are float32, and the result is rounded once.";
  doc.parameters = {{"q", "[B, Hq, M, Dk], of any strides whose last is 1"},
                    {"key_codes", "uint32 [P, Hk, L, Dk bits / 32]: P pages of L keys"},
                    {"key_scales", "[P, Hk, L, Dk / group_size]"},
                    {"key_biases", "[P, Hk, L, Dk / group_size]"},
                    {"value_codes", "uint32 [P, Hk, L, Dv bits / 32]"},
                    {"value_scales", "[P, Hk, L, Dv / group_size]"},
                    {"value_biases", "[P, Hk, L, Dv / group_size]"}};
  for (const spec::DocLine& place : attention::place_parameters()) doc.parameters.push_back(place);
  doc.parameters.push_back({"scale", "Of the scores: 1 / sqrt(Dk) for most models"});
  doc.parameters.push_back({"bits", "4 or 8"});
  doc.parameters.push_back({"group_size", "32, 64 or 128: a divisor of Dk and Dv"});
  doc.returns = "[B, Hq, M, Dv], in the type of q.";
  doc.errors =
      "Shapes that do not go together; other bits and groups; key heads that do not divide the "
      "query heads; heads wider than 1024.";
  return doc;
}

std::vector<spec::Port> inputs() {
  std::vector<spec::Port> ports = {
      {.name = "q", .shape = shape_of({"B", "Hq", "M", "Dk"}), .strided = true}};
  for (const PortIndex codes : {kKeyCodes, kValueCodes}) {
    const char* width = codes == kKeyCodes ? "Dk" : "Dv";
    ports.push_back(
        {.name = kPorts[codes], .shape = codes_of_pages("Hk", width), .type = Dtype::uint32});
    for (const int more : {codes + 1, codes + 2})
      ports.push_back({.name = kPorts[more], .shape = groups_of_pages("Hk", width)});
  }
  for (const spec::Port& place : attention::place_ports()) ports.push_back(place);
  return ports;
}

}  // namespace
}  // namespace attention_paged_quantized

spec::Op make_attention_paged_quantized() {
  using namespace attention_paged_quantized;
  const auto attribute = spec::Dim::Kind::attribute;
  spec::Op op;
  op.name = kName;
  op.summary = "attention of each head over keys and values that are quantised, in pages";
  op.doc = doc();
  op.inputs = inputs();
  op.outputs = {{"y", shape_of({"B", "Hq", "M", "Dv"})}};
  op.dims = {{.name = "W", .free = true},
             {"P"},
             {"L"},
             {"B"},
             {"Hq"},
             {"Hk"},
             {"M"},
             {"Dk"},
             {"Dv"},
             {.name = "bits", .kind = attribute, .default_value = 8},
             {.name = "group_size", .kind = attribute, .default_value = 64}};
  op.batch_dim = "W";
  op.scalars = {{"scale", 0.125, {0.125, 0.0883883461}}};
  op.suites = suites();
  op.edge_sizes = edge_sizes();
  op.complete = complete;
  op.signature = signature;
  op.cost = cost;
  op.mlx = mlx_form;
  op.fill = fill;
  op.reference = reference;
  op.bound = bound;
  op.variants = {
      cpu_variant(),
      {"rows", "metal",
       kernel_source("attention/attention_paged_quantized/attention_paged_quantized.metal"),
       "mlx_kd_attention_paged_quantized", "metal_rows", attention::row_space,
       attention::launch_rows}};
  return op;
}

}  // namespace mlx_kd::kernels
