// qembedding: rows of a quantised matrix, chosen by ids.
#include <mlx/ops.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/common/metal_space.h"
#include "mlx_kd/kernels/common/reference64.h"
#include "mlx_kd/kernels/matmul/model_sizes.h"
#include "mlx_kd/kernels/matmul/parts.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {
namespace qembedding {
namespace {

namespace mx = mlx::core;
using matmul::Format;
using spec::Dims;
using spec::Dtype;
using spec::Shape;

enum PortIndex { kIds, kW, kScales, kBiases, kLike };
enum DimIndex { kM, kV, kK, kBits };

std::vector<spec::Port> inputs() {
  std::vector<spec::Port> ports = {
      {"ids", [](const Dims& dims) { return Shape{dims.at("M")}; }, Dtype::uint32}};
  matmul::add_quantised({"w", "scales", "biases"}, {"V"}, ports);
  ports.push_back({.name = "like",
                   .shape = [](const Dims& dims) { return Shape{dims.at("has_like") ? 1 : 0}; },
                   .optional = true});
  return ports;
}

std::vector<spec::Dim> dims_of_op() {
  std::vector<spec::Dim> dims = {{.name = "M", .leading = true, .free = true}, {"V"}, {"K"}};
  for (const char* name : {"bits", "group", "mode", "has_like"})
    dims.push_back({.name = name, .kind = spec::Dim::Kind::attribute});
  dims[kBits].default_value = 4;
  return dims;
}

// Bits are the caller's; K and the group follow from them.
void signature(const spec::Op& op, std::span<const spec::ArrayView> in, std::span<int64_t> dims) {
  const auto w = in[kW].shape;
  const int64_t bits = dims[kBits];
  if (w.size() != 2) matmul::refuse(op, kW, in[kW], "it must be (V, K bits / 32)");
  if (bits < 1 || int64_t{w[1]} * 32 % bits != 0)
    matmul::refuse(op, kW, in[kW],
                   "its rows have no whole number of codes of " + std::to_string(bits) + " bits");
  const int64_t k = int64_t{w[1]} * 32 / bits;
  const Format format = matmul::read_format(op, kW, in, k);
  const auto like = in[kLike].shape;
  if (!is_left_out(in[kLike]) && (like.size() != 1 || like[0] != 1))
    matmul::refuse(op, kLike, in[kLike], "it must be (1), or left out");
  if (in[kIds].shape.empty()) matmul::refuse(op, kIds, in[kIds], "it must have an axis");
  int64_t rows = 1;
  for (const int32_t extent : in[kIds].shape) rows *= extent;
  const int64_t values[] = {
      rows, w[0], k, bits, format.group, format.mode, is_left_out(in[kLike]) ? 0 : 1};
  std::copy(std::begin(values), std::end(values), dims.begin());
}

Dims complete(const Dims& dims) {
  if (const std::string why = matmul::why_not(matmul::format_of(dims), dims.at("K")); !why.empty())
    base::misuse("kernels", "qembedding: " + why);
  if (dims.at("has_like") > 1)
    base::misuse("kernels", "qembedding: has_like is " + std::to_string(dims.at("has_like")) +
                                ": give 0 or 1");
  return dims;
}

// `numbers`: bits, group, mode, has_like.
spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double> numbers,
                          const mx::Stream& s) {
  const Format format = {static_cast<int64_t>(numbers[0]), static_cast<int64_t>(numbers[1]),
                         static_cast<int64_t>(numbers[2])};
  const bool is_affine = format.mode == matmul::kAffine;
  const auto rows = [&](PortIndex port) { return mx::take(in[port], in[kIds], 0, s); };
  std::optional<mx::array> biases;
  if (is_affine) biases = rows(kBiases);
  const mx::Dtype type = !is_left_out(in[kLike]) ? in[kLike].dtype()
                         : is_affine             ? in[kScales].dtype()
                                                 : mx::float32;
  return {mx::dequantize(rows(kW), rows(kScales), biases, static_cast<int>(format.group),
                         static_cast<int>(format.bits), matmul::mlx_mode(format), std::nullopt,
                         type, s)};
}

void fill(const spec::FillRequest& request) {
  base::Random random(request.seed * 31 + static_cast<uint64_t>(request.distribution));
  const Dims& dims = request.dims;
  auto* const ids = static_cast<uint32_t*>(request.inputs[kIds]);
  for (int64_t i = 0; i < dims.at("M"); ++i)
    ids[i] = static_cast<uint32_t>(random.below(static_cast<uint64_t>(dims.at("V"))));
  matmul::fill_weights(matmul::format_of(dims), request.t, dims.at("V"), dims.at("K"),
                       {request.inputs[kW], request.inputs[kScales], request.inputs[kBiases]},
                       random);
  if (dims.at("has_like")) spec::store_element(request.inputs[kLike], 0, request.t, 0.0f);
}

std::vector<spec::Reference64> reference(const std::vector<const void*>& in, Dtype t,
                                         const Dims& dims, const std::vector<double>&) {
  spec::Reference64 result;
  for (int64_t i = 0; i < dims.at("M"); ++i) {
    const matmul::Row64 row =
        matmul::row_of(matmul::format_of(dims), {in[kW], in[kScales], in[kBiases]}, t,
                       static_cast<const uint32_t*>(in[kIds])[i], dims.at("K"));
    for (size_t j = 0; j < row.w.size(); ++j)
      append(result, {row.w[j], std::fabs(row.w[j]), row.magnitudes[j], 2 * underflow(t)});
  }
  return {result};
}

spec::ErrorBound bound(const Dims&) {
  return {2,
          "float32 roundings of scale code and of its sum with the bias; the sum is rounded to "
          "the type once"};
}

// Rows that are asked for, once each.
spec::Cost cost(const Dims& dims, Dtype t) {
  const auto number = [&](const char* name) { return static_cast<double>(dims.at(name)); };
  const double size = static_cast<double>(spec::size_of(t));
  const double group = dims.at("mode") == matmul::kAffine ? 2 * size : 1;
  const double row = number("K") * number("bits") / 8 + number("K") / number("group") * group;
  return {number("M") * (4 + number("K") * size) + std::min(number("M"), number("V")) * row,
          2 * number("M") * number("K")};
}

Dims size(int64_t m, int64_t v, int64_t k, const Format& format, int64_t has_like = 0) {
  return {{"M", m},
          {"V", v},
          {"K", k},
          {"bits", format.bits},
          {"group", format.group},
          {"mode", format.mode},
          {"has_like", has_like}};
}

std::vector<Dims> edge_sizes() {
  using enum matmul::Mode;
  return {size(1, 1, 32, {4, 32, kAffine}),   size(3, 5, 192, {2, 64, kAffine}, 1),
          size(5, 3, 96, {3, 32, kAffine}),   size(2, 7, 256, {5, 128, kAffine}),
          size(7, 2, 64, {6, 64, kAffine}),   size(4, 9, 1152, {8, 64, kAffine}),
          size(2, 3, 64, {4, 32, kMxfp4}, 1), size(3, 4, 96, {8, 32, kMxfp8}, 1),
          size(9, 6, 320, {4, 16, kNvfp4}, 1)};
}

spec::Space cpu_space(Dtype, const spec::DeviceTraits& traits) {
  spec::Space space;
  space.knobs = {vector_knob(traits),
                 {"UNROLL",
                  {1, 2, 4},
                  spec::KnobScale::log2,
                  spec::KnobRole::source,
                  "steps a turn of the innermost loop"}};
  add_thread_knobs(space, traits, {16, 1, 2, 4, 8, 32, 64, 128}, "rows");
  return space;
}

spec::Space metal_space(Dtype, const spec::DeviceTraits&) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Space space;
  space.knobs = {{"WORDS", {4, 1, 2}, log2, source, "uints of a load at most"},
                 {"THREADS", {256, 64, 128, 512, 1024}, log2, source, "threads of a threadgroup"}};
  return space;
}

spec::Launch launch_metal(const Dims& dims, const spec::Setting& knobs) {
  const int64_t columns = dims.at("mode") == matmul::kNvfp4 ? 16 : 32;
  return launch_flat(dims.at("M") * (dims.at("K") / columns), knobs);
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "Rows of an embedding that is quantised as mx.quantize does, in any of its formats: y = "
      "scale code + bias, the exact value, rounded once. MLX on a CPU rounds the product too.";
  doc.parameters = {
      {"ids",
       "uint32 [...]. A kernel's rows of an id from V on are NaN, and it reads nothing for "
       "them; MLX's form, which runs where no kernel does, reads what lies there."},
      {"w", "uint32 [V, K bits / 32], as mx.quantize gives them."},
      {"scales", "[V, K / group] of the type of the result, or uint8 of mxfp4, mxfp8 and nvfp4."},
      {"biases", "Shape as the scales; None where the format has none."},
      {"like",
       "[1], of the type that the result has: of use with mxfp4, mxfp8 and nvfp4, whose "
       "results are float32 without it. Or None."},
      {"bits", "Of a code."}};
  doc.returns = "[..., K], of the type of biases or like.";
  doc.errors = "Shapes that do not go together; a format that MLX does not have.";
  return doc;
}

}  // namespace
}  // namespace qembedding

spec::Op make_qembedding() {
  using namespace qembedding;
  spec::Op op;
  op.name = "qembedding";
  op.summary = "rows of a quantised embedding, chosen by ids";
  op.doc = doc();
  op.inputs = inputs();
  op.outputs = {{"y", [](const Dims& dims) { return Shape{dims.at("M"), dims.at("K")}; }}};
  op.dims = dims_of_op();
  op.batch_dim = "M";
  op.proof_dims = {"V"};
  const Format four = {4, 64, matmul::kAffine};
  op.suites = {{"llama_1b_decode_4bit", {size(1, 32000, 2048, four), size(4, 32000, 2048, four)}},
               {"llama_1b_prompt_4bit", {size(512, 32000, 2048, four)}}};
  op.edge_sizes = edge_sizes();
  op.complete = complete;
  op.of_model = matmul::embedding_sizes;
  op.cost = cost;
  op.mlx = mlx_form;
  op.fill = fill;
  op.reference = reference;
  op.bound = bound;
  spec::Op ports;  // of messages; it outlives the op that is built here
  ports.name = op.name;
  ports.inputs = op.inputs;
  const auto shared = std::make_shared<const spec::Op>(std::move(ports));
  op.signature = [shared](std::span<const spec::ArrayView> in, std::span<const double>,
                          std::span<int64_t> dims) { signature(*shared, in, dims); };
  op.variants = {{"rows", "cpp", kernel_source("matmul/qembedding/qembedding.cpu.cpp"),
                  "mlx_kd_qembedding", "cpp_arguments", cpu_space,
                  [](const Dims& dims, const spec::Setting& knobs) {
                    return share_units(dims.at("M"), knobs);
                  }},
                 {"units", "metal", kernel_source("matmul/qembedding/qembedding.metal"),
                  "mlx_kd_qembedding", "metal_flat", metal_space, launch_metal}};
  return op;
}

}  // namespace mlx_kd::kernels
