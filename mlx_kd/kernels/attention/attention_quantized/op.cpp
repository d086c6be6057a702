#include <mlx/fast.h>
#include <mlx/ops.h>
#include <mlx/utils.h>

#include <optional>
#include <stdexcept>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/attention/attention_quantized/judge.h"
#include "mlx_kd/kernels/attention/coded_keys.h"
#include "mlx_kd/kernels/attention/key_parts.h"
#include "mlx_kd/kernels/common/affine_rows.h"
#include "mlx_kd/kernels/common/metal_space.h"
#include "mlx_kd/kernels/common/shapes.h"
#include "mlx_kd/kernels/common/suites.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_attention_quantized();

namespace attention_quantized {
namespace {

namespace mx = mlx::core;
using spec::ArrayView;
using spec::Dims;
using spec::Dtype;
using spec::Shape;

enum DimIndex { kS, kB, kHq, kHk, kM, kDk, kDv, kCausal, kBits, kGroup, kHasMask };

constexpr const char* kPorts[] = {"q",           "key_codes",    "key_scales",   "key_biases",
                                  "value_codes", "value_scales", "value_biases", "mask"};

Dims complete(const Dims& dims) {
  if (dims.at("Hk") > 0 && dims.at("Hq") % dims.at("Hk") != 0)
    base::misuse("kernels", "Hq is " + std::to_string(dims.at("Hq")) + " and Hk " +
                                std::to_string(dims.at("Hk")) +
                                ": give a number of key heads that divides that of query heads");
  const std::string wrong = attention::wrong_coded_heads(dims.at("bits"), dims.at("group_size"),
                                                         dims.at("Dk"), dims.at("Dv"));
  if (!wrong.empty()) base::misuse("kernels", wrong);
  Dims result = dims;
  for (const char* choice : {"causal", "has_mask"}) result.set(choice, dims.at(choice) > 0);
  return result;
}

constexpr PortShapes kShapes = {"attention_quantized", kPorts, "q and key_codes say"};

void signature(std::span<const ArrayView> in, std::span<const double>, std::span<int64_t> dims) {
  for (const PortIndex port : {kQ, kKeyCodes, kValueScales})
    if (in[port].shape.size() != 4)
      kShapes.refuse(port, in[port], "of 4 axes: (B, H, rows, width)");
  const auto q = in[kQ].shape, codes = in[kKeyCodes].shape;
  const int64_t bits = dims[kBits], group = dims[kGroup];
  dims[kB] = q[0], dims[kHq] = q[1], dims[kM] = q[2], dims[kDk] = q[3];
  dims[kHk] = codes[1], dims[kS] = codes[2], dims[kDv] = in[kValueScales].shape[3] * group;
  if (const std::string wrong = attention::wrong_coded_heads(bits, group, dims[kDk], dims[kDv]);
      !wrong.empty())
    throw std::invalid_argument("[attention_quantized] " + wrong);
  if (dims[kHk] == 0 || dims[kHq] % dims[kHk] != 0)
    kShapes.refuse(kKeyCodes, in[kKeyCodes],
                   "of a number of heads that divides the " + std::to_string(q[1]) + " of q");
  for (const PortIndex part : {kKeyCodes, kValueCodes}) {
    const int64_t width = dims[part == kKeyCodes ? kDk : kDv];
    kShapes.check(part, in[part], {dims[kB], dims[kHk], dims[kS], width * bits / 32});
    for (const int more : {part + 1, part + 2})
      kShapes.check(static_cast<size_t>(more), in[static_cast<size_t>(more)],
                    {dims[kB], dims[kHk], dims[kS], width / group});
  }
  dims[kHasMask] = !is_left_out(in[kMask]);
  if (dims[kHasMask]) kShapes.check(kMask, in[kMask], {dims[kB], dims[kHq], dims[kM], dims[kS]});
}

// A mask gets the shape of the scores, without a copy.
spec::Op::Arrays arrange(const spec::Op::Arrays& in, const mx::Stream& s) {
  if (is_left_out(in[kMask]) || in[kQ].ndim() != 4 || in[kKeyCodes].ndim() != 4) return in;
  spec::Op::Arrays out = in;
  const mx::Shape scores = {in[kQ].shape(0), in[kQ].shape(1), in[kQ].shape(2),
                            in[kKeyCodes].shape(2)};
  try {
    out[kMask] = mx::broadcast_to(in[kMask], scores, s);
  } catch (const std::invalid_argument&) {
    throw std::invalid_argument("[attention_quantized] mask has shape " +
                                shape_text(in[kMask].shape()) + ": it must broadcast to " +
                                shape_text(scores));
  }
  return out;
}

// As mlx-lm composes it: two quantised products, and the softmax between them in float32.
spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double> numbers,
                          const mx::Stream& s) {
  const bool causal = numbers[1] > 0;
  const int bits = static_cast<int>(numbers[2]), group = static_cast<int>(numbers[3]);
  const int b = in[kQ].shape(0), hq = in[kQ].shape(1), m = in[kQ].shape(2), dk = in[kQ].shape(3);
  const int hk = in[kKeyCodes].shape(1), keys = in[kKeyCodes].shape(2), each = hq / hk;
  if (keys == 0 || in[kQ].size() == 0)  // MLX's product divides by a size of 0
    throw std::invalid_argument("[attention_quantized] q has shape " + shape_text(in[kQ].shape()) +
                                " and key_codes " + shape_text(in[kKeyCodes].shape()) +
                                ": give at least one query and one key");
  const auto spread = [&](PortIndex port) { return mx::expand_dims(in[port], 2, s); };
  const mx::array scale(static_cast<float>(numbers[0]), in[kQ].dtype());
  const mx::array q = mx::reshape(mx::multiply(in[kQ], scale, s), {b, hk, each, m, dk}, s);
  mx::array scores = mx::quantized_matmul(q, spread(kKeyCodes), spread(kKeyScales),
                                          spread(kKeyBiases), true, group, bits, "affine", s);
  std::optional<mx::array> seen;
  if (!is_left_out(in[kMask])) seen = mx::reshape(in[kMask], {b, hk, each, m, keys}, s);
  if (causal) {
    const mx::array limit = mx::greater_equal(mx::expand_dims(mx::arange(keys - m, keys, s), 1, s),
                                              mx::expand_dims(mx::arange(keys, s), 0, s), s);
    seen = seen ? mx::logical_and(*seen, limit, s) : limit;
  }
  if (seen)
    scores = mx::where(*seen, scores, mx::array(mx::finfo(scores.dtype()).min, scores.dtype()), s);
  const mx::array powers = mx::softmax(scores, std::vector<int>{-1}, true, s);
  const mx::array y = mx::quantized_matmul(powers, spread(kValueCodes), spread(kValueScales),
                                           spread(kValueBiases), false, group, bits, "affine", s);
  return {mx::reshape(y, {b, hq, m, y.shape(-1)}, s)};
}

// --- kernels ---

std::vector<spec::Stage> cpu_stages(const Dims& dims, const spec::Setting& knobs) {
  return attention::stages_over_keys("mlx_kd_attention_quantized", dims, knobs);
}

std::vector<int64_t> cpu_scratch(Dtype, const Dims& dims, const spec::Setting& knobs) {
  return attention::scratch_of_parts(dims, knobs, dims.at("Dv"));
}

spec::Variant cpu_variant() {
  spec::Variant variant;
  variant.name = "blocks";
  variant.language = "cpp";
  variant.source = kernel_source("attention/attention_quantized/attention_quantized.cpu.cpp");
  variant.func_name = "mlx_kd_attention_quantized";
  variant.launch_kind = "cpp_arguments";
  variant.space = [](Dtype dtype, const spec::DeviceTraits& traits) {
    return attention::coded_space(dtype, traits, {512, 128, 256, 1024, 2048});
  };
  variant.stages = cpu_stages;
  variant.scratch = cpu_scratch;
  return variant;
}

// --- sizes ---

Dims size(int64_t hq, int64_t hk, int64_t m, int64_t d, int64_t bits, int64_t group, int64_t s,
          int64_t b = 1) {
  return {{"S", s},       {"B", b},  {"Hq", hq},        {"Hk", hk},     {"M", m},
          {"Dk", d},      {"Dv", d}, {"causal", m > 1}, {"bits", bits}, {"group_size", group},
          {"has_mask", 0}};
}

std::vector<spec::Suite> suites() {
  return {{"llama_decode", {size(32, 8, 1, 128, 8, 64, 512), size(32, 8, 1, 128, 8, 64, 4096)}},
          {"small_decode", {size(32, 4, 1, 64, 8, 64, 4096), size(32, 4, 1, 64, 4, 32, 4096)}},
          {"decode_batches", {with(size(32, 8, 1, 128, 8, 64, 1024, 4), {{"has_mask", 1}})}}};
}

// One key, one row, widths of one and of several groups, rows that fill no block, every limit.
std::vector<Dims> edge_sizes() {
  return {size(1, 1, 1, 32, 8, 32, 1),
          size(6, 2, 3, 64, 4, 32, 70),
          with(size(3, 1, 5, 128, 8, 64, 9, 2), {{"Dv", 64}}),
          with(size(9, 1, 1, 64, 8, 64, 131, 2), {{"has_mask", 1}}),
          with(size(4, 4, 2, 128, 4, 128, 33), {{"has_mask", 1}, {"causal", 1}}),
          size(8, 2, 1, 96, 4, 32, 2100)};
}

spec::Cost cost(const Dims& dims, Dtype dtype) {
  const auto of = [&](const char* name) { return static_cast<double>(dims.at(name)); };
  const auto element = static_cast<double>(spec::size_of(dtype));
  const double rows = of("B") * of("Hq") * of("M"), width = of("Dk") + of("Dv");
  const double row = width * (of("bits") / 8 + 2 * element / of("group_size"));
  const double mask = dims.at("has_mask") ? rows * of("S") : 0;
  return {element * width * rows + of("B") * of("Hk") * of("S") * row + mask,
          2 * rows * of("S") * width};
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "Attention over keys and values that are quantised: softmax(scale q k^T) v for each head, "
      "with "
      "k and v = scale code + bias in groups, as mx.quantize makes them. Elements are made in "
      "registers, never stored. Hq / Hk query heads share each key head; scores, softmax and sums "
      "are float32, and the result is rounded once. Query t has position S - M + t.";
  doc.parameters = {{"q", "[B, Hq, M, Dk], of any strides whose last is 1; so are all others"},
                    {"key_codes", "uint32 [B, Hk, S, Dk bits / 32]"},
                    {"key_scales", "[B, Hk, S, Dk / group_size]"},
                    {"key_biases", "[B, Hk, S, Dk / group_size]"},
                    {"value_codes", "uint32 [B, Hk, S, Dv bits / 32]"},
                    {"value_scales", "[B, Hk, S, Dv / group_size]"},
                    {"value_biases", "[B, Hk, S, Dv / group_size]"},
                    {"mask",
                     "bool, of a shape that broadcasts to [B, Hq, M, S]: keys with False have no "
                     "weight, but if a query sees no key, all have the same"},
                    {"scale", "Of the scores: 1 / sqrt(Dk) for most models"},
                    {"causal", "1: no keys after the query's position"},
                    {"bits", "4 or 8"},
                    {"group_size", "32, 64 or 128: a divisor of Dk and Dv"}};
  doc.returns = "[B, Hq, M, Dv], in the type of q.";
  doc.errors =
      "Shapes that do not go together; other bits and groups; key heads that do not divide the "
      "query "
      "heads; heads wider than 1024.";
  return doc;
}

std::vector<spec::Port> inputs() {
  std::vector<spec::Port> ports = {
      {.name = "q", .shape = shape_of({"B", "Hq", "M", "Dk"}), .strided = true}};
  for (const PortIndex part : {kKeyCodes, kValueCodes}) {
    const char* width = part == kKeyCodes ? "Dk" : "Dv";
    ports.push_back({.name = kPorts[part],
                     .shape = codes_of("Hk", width),
                     .type = Dtype::uint32,
                     .strided = true});
    for (const int more : {part + 1, part + 2})
      ports.push_back({.name = kPorts[more], .shape = groups_of("Hk", width), .strided = true});
  }
  const auto scores = shape_of({"B", "Hq", "M", "S"});
  ports.push_back({.name = "mask",
                   .shape = [=](const Dims& d) { return d.at("has_mask") ? scores(d) : Shape{0}; },
                   .type = Dtype::boolean,
                   .strided = true,
                   .optional = true});
  return ports;
}

}  // namespace
}  // namespace attention_quantized

spec::Op make_attention_quantized() {
  using namespace attention_quantized;
  const auto attribute = spec::Dim::Kind::attribute;
  spec::Op op;
  op.name = "attention_quantized";
  op.summary = "attention of each head over keys and values that are quantised";
  op.doc = doc();
  op.inputs = inputs();
  op.outputs = {{"y", shape_of({"B", "Hq", "M", "Dv"})}};
  op.dims = {{.name = "S", .free = true},
             {"B"},
             {"Hq"},
             {"Hk"},
             {"M"},
             {"Dk"},
             {"Dv"},
             {.name = "causal", .kind = attribute},
             {.name = "bits", .kind = attribute, .default_value = 8},
             {.name = "group_size", .kind = attribute, .default_value = 64},
             {.name = "has_mask", .kind = attribute}};
  op.batch_dim = "S";
  op.scalars = {{"scale", 0.125, {0.125, 0.0883883461}}};
  op.suites = suites();
  op.edge_sizes = edge_sizes();
  op.complete = complete;
  op.signature = signature;
  op.arrange = arrange;
  op.cost = cost;
  op.mlx = mlx_form;
  op.fill = fill;
  op.reference = reference;
  op.bound = bound;
  op.variants = {
      cpu_variant(),
      {"rows", "metal", kernel_source("attention/attention_quantized/attention_quantized.metal"),
       "mlx_kd_attention_quantized", "metal_rows", attention::row_space, attention::launch_rows}};
  return op;
}

}  // namespace mlx_kd::kernels
