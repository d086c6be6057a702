#include <cmath>
#include <limits>

#include "mlx_kd/kernels/activations/swiglu/mlx_form.h"
#include "mlx_kd/kernels/activations/swiglu/model_sizes.h"
#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/common/metal_space.h"
#include "mlx_kd/kernels/common/reference64.h"
#include "mlx_kd/kernels/common/suites.h"
#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_swiglu();

namespace swiglu {
namespace {

using spec::Dims;
using spec::Dtype;

constexpr int64_t kUnit = 1024;  // elements, as in the source

spec::ErrorBound bound(const Dims&) {
  return {12,
          "The result is rounded to the type. In float32: 4 for the polynomial of 2^f and its "
          "evaluation, 1 for 1 + e, 1 for the quotient or 4 for an estimate with a Newton step, 2 "
          "for the products; the rounding of gate log2(e) is magnified by |gate| sigmoid(-gate), "
          "which S holds."};
}

Charged gated(double gate, double up, Dtype dtype) {
  const double sigmoid = 1 / (1 + std::exp(-gate)), other = 1 / (1 + std::exp(gate));
  const double y = gate * sigmoid * up;
  // float32 has no sigmoid below 2^-126, and devices may flush it and its product with gate.
  const double lost = (std::fabs(gate * up) + std::fabs(up)) * 0x1p-125 + underflow(dtype);
  return {y, std::fabs(y), std::fabs(y) * (1 + std::fabs(gate) * other), lost};
}

std::vector<spec::Reference64> reference(const std::vector<const void*>& inputs, Dtype dtype,
                                         const Dims& dims, const std::vector<double>&) {
  const std::vector<double> gate = load_all(inputs[0], dims.at("N"), dtype);
  const std::vector<double> up = load_all(inputs[1], dims.at("N"), dtype);
  spec::Reference64 result;
  for (size_t i = 0; i < gate.size(); ++i) append(result, gated(gate[i], up[i], dtype));
  saturate(result, dtype, bound(dims).accumulated);
  return {std::move(result)};
}

spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double>,
                          const mlx::core::Stream& s) {
  return {swiglu_in_mlx(in[0], in[1], s)};
}

spec::Space space(Dtype dtype, const spec::DeviceTraits& traits) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Space space;
  space.knobs = {vector_knob(traits),
                 {"UNROLL", {4, 1, 2, 8}, log2, source, "steps a turn of the loop"},
                 {"DEGREE", {5, 6}, linear, source, "degree of the polynomial for 2^f"},
                 {"ESTRIN", {0, 1}, choice, source, "order of the polynomial", {"chain", "tree"}},
                 {"SPLIT", {0, 1}, choice, source, "parts of log2(e)", {"one", "two"}},
                 {"PREFETCH", {0, 512, 2048}, linear, source, "bytes ahead of the loop"}};
  if (has_isa(traits, {"avx512f", "avx512vl"}))
    space.knobs.push_back(
        {"SCALEF", {1, 0}, choice, source, "how 2^n is applied", {"scalef", "integers"}});
  if (is_x86(traits))
    space.knobs.push_back(
        {"DIVIDE", {0, 1}, choice, source, "how the quotient is found", {"divide", "newton"}});
  add_rounding_knob(space, dtype, traits);
  add_stream_knob(space, traits, {0, 1}, {"none", "y"});
  add_thread_knobs(space, traits, {32, 4, 8, 16, 64, 128}, "blocks of 1024 elements");
  return space;
}

spec::Space metal_space(Dtype, const spec::DeviceTraits&) {
  using enum spec::KnobScale;
  using enum spec::KnobRole;
  spec::Space space;
  space.knobs = {pack_knob(),
                 {"UNROLL", {1, 2, 4, 8}, log2, source, "packs of a thread"},
                 {"SPREAD",
                  {0, 1, 2},
                  choice,
                  source,
                  "packs of a thread lie",
                  {"a threadgroup apart", "a grid apart", "side by side"}},
                 {"STAGED", {0, 1}, choice, source, "packs are read", {"one by one", "at once"}},
                 {"FORM", {0, 1}, choice, source, "the gate is", {"divided", "multiplied"}},
                 fast_knob("exponential and quotient"),
                 group_knob()};
  for (const char* knob : {"SPREAD", "STAGED"})
    space.constraints.push_back({std::string(knob) + " matters only where UNROLL > 1",
                                 {knob, "UNROLL"},
                                 [](const int64_t* v) { return v[0] == 0 || v[1] > 1; }});
  return space;
}

spec::Launch launch_metal(const Dims& dims, const spec::Setting& knobs) {
  const int64_t each = knobs.at("VEC") * knobs.at("UNROLL");
  return launch_flat(divide_up(dims.at("N"), each), knobs);
}

// Over the first elements: what silu makes of infinities, NaN, zeros and subnormals.
void add_special_values(const std::vector<void*>& inputs, Dtype dtype, const Dims& dims) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const double tiny = spec::smallest_subnormal(dtype);
  const double pairs[][2] = {{kInfinity, 1},   {-kInfinity, 1}, {kNan, 1},        {1, kNan},
                             {1, kInfinity},   {0, kInfinity},  {-0.0, -1},       {0, -1},
                             {tiny, 1},        {-5 * tiny, 2},  {1, -tiny},       {kInfinity, 0},
                             {-1, -kInfinity}, {-kInfinity, 0}, {kNan, kInfinity}};
  int64_t at = 0;
  for (const auto& [gate, up] : pairs) {
    if (at >= dims.at("N")) return;
    spec::store_element(inputs[0], at, dtype, static_cast<float>(gate));
    spec::store_element(inputs[1], at++, dtype, static_cast<float>(up));
  }
}

spec::Doc doc() {
  spec::Doc doc;
  doc.aliases = {"swiglu2"};
  doc.brief =
      "The gate of a Llama-like feed-forward layer. y = gate * sigmoid(gate) * up, element by "
      "element.";
  doc.parameters = {{"gate", "[..., D], at least one axis."}, {"up", "Shape as gate."}};
  doc.returns = "Shape as gate, in MLX's common type of both.";
  doc.errors = "If the shapes differ; the message shows both.";
  return doc;
}

}  // namespace
}  // namespace swiglu

spec::Op make_swiglu() {
  using namespace swiglu;
  spec::Op op;
  op.name = "swiglu";
  op.summary = "y = gate * sigmoid(gate) * up";
  op.doc = doc();
  op.inputs = {{"gate", rows_by_d}, {"up", rows_by_d}};
  op.outputs = {{"out", rows_by_d}};
  op.dims = {rows_dim(), {"D"}};
  op.batch_dim = "rows";
  op.edge_sizes = rows_edges();
  op.suites = {rows_suite("glm_flash_small", kPrefillRows, 1536),
               rows_suite("glm_flash_decode", kDecodeRows, 1536),
               rows_suite("qwen30b_decode", kDecodeRows, 2048),
               rows_suite("lfm2_decode", kDecodeRows, 7168)};
  op.complete = [](const Dims& dims) {
    const int64_t rows = dims.at("rows"), d = dims.at("D");
    return Dims{{"rows", rows}, {"D", d}, {"N", rows * d}};
  };
  op.of_model = swiglu::model_sizes;
  op.cost = [](const Dims& dims, Dtype dtype) {
    const auto n = static_cast<double>(dims.at("N"));
    return spec::Cost{3 * n * static_cast<double>(spec::size_of(dtype)), 14 * n};
  };
  op.mlx = mlx_form;
  op.reference = reference;
  op.bound = bound;
  op.add_special_values = add_special_values;
  op.variants = {{"elements", "cpp", kernel_source("activations/swiglu/swiglu.cpu.cpp"),
                  "mlx_kd_swiglu", "cpu_elements", space,
                  [](const Dims& dims, const spec::Setting& knobs) {
                    return share_units(divide_up(dims.at("N"), kUnit), knobs);
                  }},
                 {"elements", "metal", kernel_source("activations/swiglu/swiglu.metal"),
                  "mlx_kd_swiglu", "metal_flat", metal_space, launch_metal}};
  op.variants.back().body = {
      "swiglu_flat",
      [](const Dims& dims, int64_t, int64_t each) { return divide_up(dims.at("N"), each); }, true,
      true};
  return op;
}

}  // namespace mlx_kd::kernels
