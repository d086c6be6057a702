#include <algorithm>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/attention/attention/arrays.h"
#include "mlx_kd/kernels/attention/attention/cuda_variant.h"
#include "mlx_kd/kernels/attention/attention/judge.h"
#include "mlx_kd/kernels/attention/attention/model_sizes.h"
#include "mlx_kd/kernels/attention/key_parts.h"
#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/common/metal_space.h"
#include "mlx_kd/kernels/common/suites.h"
#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

spec::Op make_attention();

namespace attention {
namespace {

using spec::Dims;
using spec::Dtype;
using spec::Shape;
using enum spec::KnobScale;
using enum spec::KnobRole;

constexpr int64_t kFloatBytes = 4;
constexpr int64_t kWidest = 4096;  // kernels keep rows of Dk and Dv on the stack
constexpr int64_t kMlxRows = 32;   // from which on MLX's time is in proportion to the queries

Dims complete(const Dims& dims) {
  if (dims.at("Hk") > 0 && dims.at("Hq") % dims.at("Hk") != 0)
    base::misuse("kernels", "Hq is " + std::to_string(dims.at("Hq")) + " and Hk " +
                                std::to_string(dims.at("Hk")) +
                                ": give a number of key heads that divides that of query heads");
  for (const char* width : {"Dk", "Dv"})
    if (dims.at(width) > kWidest)
      base::misuse("kernels", std::string(width) + " is " + std::to_string(dims.at(width)) +
                                  ": attention takes heads of at most " + std::to_string(kWidest));
  Dims result = dims;
  for (const char* choice : {"causal", "has_mask", "has_sinks", "has_bias"})
    result.set(choice, dims.at(choice) > 0);
  return result;
}

// An input that an attribute tells.
std::function<Shape(const Dims&)> if_there(const char* attribute,
                                           const std::function<Shape(const Dims&)>& shape) {
  return [=](const Dims& d) { return d.at(attribute) ? shape(d) : Shape{0}; };
}

Shape head_shape(const Dims& dims) {
  return {dims.at("Hq")};
}

// --- CPU ---

std::vector<spec::Stage> cpu_stages(const Dims& dims, const spec::Setting& knobs) {
  return stages_over_keys("mlx_kd_attention", dims, knobs);
}

// Blocks of many rows in tile registers, the default, and larger blocks: their rows share what is
// packed of keys and values.
void offer_matrices(spec::Space& space) {
  for (spec::Knob& knob : space.knobs) {
    if (knob.name == "DOT") {
      knob.values.insert(knob.values.begin(), 2);
      knob.labels.insert(knob.labels.begin(), "products of matrices of bfloat16");
      knob.help = "scores by; the first: sums too, of blocks of more than 8 rows";
    }
    if (knob.name == "ROWS") knob.values = {64, 128, 32, 8, 16};
    if (knob.name == "TILE") knob.values = {128, 64, 32};
  }
}

spec::Variant cpu_variant() {
  spec::Variant variant;
  variant.name = "blocks";
  variant.language = "cpp";
  variant.source = kernel_source("attention/attention/attention.cpu.cpp");
  variant.func_name = "mlx_kd_attention";
  variant.launch_kind = "cpp_arguments";
  variant.space = [](Dtype dtype, const spec::DeviceTraits& traits) {
    spec::Space space =
        block_space(dtype, traits, {32, 8, 16, 64}, {512, 64, 128, 256, 1024, 2048, 8192});
    if (has_matrices(dtype, traits)) offer_matrices(space);
    return space;
  };
  variant.stages = cpu_stages;
  variant.scratch = scratch_of_blocks;
  return variant;
}

// --- Metal ---

spec::Space metal_space(Dtype, const spec::DeviceTraits&) {
  spec::Space space;
  space.knobs = {{"ROWS", {4, 1, 2, 8}, log2, source, "query rows of a threadgroup"},
                 {"BLOCK", {256, 128, 512, 1024}, log2, source, "keys of a threadgroup"},
                 {"THREADS", {128, 64, 256, 512}, log2, source, "threads of a threadgroup"},
                 fast_knob("exponential")};
  space.constraints.push_back({"scores take at most 16 KiB of threadgroup memory",
                               {"ROWS", "BLOCK"},
                               [](const int64_t* v) { return v[0] * v[1] <= 4096; }});
  return space;
}

int64_t metal_units(const Dims& dims, const spec::Setting& knobs) {
  return blocks_of(dims, knobs.at("ROWS")) * divide_up(dims.at("S"), knobs.at("BLOCK"));
}

std::vector<spec::Stage> metal_stages(const Dims& dims, const spec::Setting& knobs) {
  const int64_t threads = knobs.at("THREADS");
  spec::Launch blocks, rows;
  blocks.group[0] = rows.group[0] = threads;
  blocks.grid[0] = metal_units(dims, knobs) * threads;
  rows.grid[0] = dims.at("B") * dims.at("Hq") * dims.at("M") * threads;
  return {{"mlx_kd_attention", blocks}, {"mlx_kd_attention_merge", rows}};
}

std::vector<int64_t> metal_scratch(Dtype, const Dims& dims, const spec::Setting& knobs) {
  const int64_t rows = metal_units(dims, knobs) * knobs.at("ROWS");
  return {rows * 2 * kFloatBytes, rows * dims.at("Dv") * kFloatBytes};
}

spec::Variant metal_variant() {
  spec::Variant variant;
  variant.name = "blocks";
  variant.language = "metal";
  variant.source = kernel_source("attention/attention/attention.metal");
  variant.func_name = "mlx_kd_attention";
  variant.launch_kind = "metal_blocks";
  variant.space = metal_space;
  variant.stages = metal_stages;
  variant.scratch = metal_scratch;
  return variant;
}

// --- sizes ---

struct Heads {
  int64_t q, k, dk, dv;
};

Dims size(const Heads& heads, int64_t t, int64_t s, int64_t b = 1) {
  return {{"S", s},      {"B", b},         {"Hq", heads.q},  {"Hk", heads.k},
          {"M", t},      {"Dk", heads.dk}, {"Dv", heads.dv}, {"causal", t > 1},
          {"window", 0}, {"has_mask", 0},  {"has_sinks", 0}, {"has_bias", 0}};
}

// Llama of 1B, Llama of 8B, latent attention of GLM Flash and DeepSeek-V3, Gemma 3, gpt-oss.
std::vector<spec::Suite> suites() {
  const Heads small = {32, 4, 64, 64}, llama = {32, 8, 128, 128};
  const Heads latent = {20, 1, 576, 512}, deepseek = {128, 1, 576, 512};
  const Heads gemma = {8, 4, 256, 256}, oss = {64, 8, 64, 64};
  return {{"decode", {size(small, 1, 64), size(small, 1, 512), size(small, 1, 4096)}},
          {"llama_decode", {size(llama, 1, 512), size(llama, 1, 4096), size(llama, 1, 1024, 4)}},
          {"latent_decode", {size(latent, 1, 512), size(latent, 1, 4096), size(deepseek, 1, 4096)}},
          {"sliding_decode", {size(gemma, 1, 1024), with(size(oss, 1, 128), {{"has_sinks", 1}})}},
          {"prompt", {size(small, 32, 32), size(small, 512, 512), size(llama, 128, 1024)}}};
}

// One key, widths beyond and between vectors, more queries than keys, every kind of limit.
std::vector<Dims> edge_sizes() {
  const Heads tiny = {1, 1, 1, 1}, odd = {6, 2, 33, 7}, wide = {3, 1, 130, 72};
  const Heads group = {9, 1, 16, 40};
  return {size(tiny, 1, 1),
          with(size(odd, 3, 70), {{"causal", 0}}),
          with(size(wide, 5, 9, 2), {{"window", 5}}),
          with(size(odd, 7, 5), {{"has_sinks", 1}}),
          with(size(group, 1, 131, 2), {{"has_mask", 1}, {"has_sinks", 1}}),
          with(size(odd, 8, 13), {{"has_bias", 1}, {"causal", 0}}),
          with(size(wide, 2, 2100), {{"has_bias", 1}, {"has_mask", 1}, {"window", 900}}),
          size(group, 1, 1300)};
}

spec::Cost cost(const Dims& dims, Dtype dtype) {
  const auto of = [&](const char* name) { return static_cast<double>(dims.at(name)); };
  const double rows = of("B") * of("Hq") * of("M"), width = of("Dk") + of("Dv");
  double seen = of("S"), read = of("S");  // keys of a row, and of all rows
  if (dims.at("causal")) seen = std::max(1.0, seen - (of("M") - 1) / 2);
  if (dims.at("window") > 0) {
    seen = std::min(seen, of("window"));
    if (!dims.at("has_mask")) read = std::min(read, of("window") + of("M") - 1);
  }
  const auto element = static_cast<double>(spec::size_of(dtype));
  const double extra = (dims.at("has_mask") ? 1 : 0) + (dims.at("has_bias") ? element : 0);
  const double sinks = dims.at("has_sinks") ? of("Hq") * element : 0;
  return {element * width * (rows + of("B") * of("Hk") * read) + extra * rows * of("S") + sinks,
          2 * rows * seen * width};
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "Attention: softmax(scale q k^T) v for each head, as mx.fast.scaled_dot_product_attention. "
      "Hq / Hk query heads share each key head; Dk and Dv may differ. Scores, softmax and sums are "
      "float32, and the result is rounded once. Query t has position S - M + t.";
  doc.parameters = {
      {"q", "[B, Hq, M, Dk], of any strides whose last is 1; so are all but sinks"},
      {"k", "[B, Hk, S, Dk]"},
      {"v", "[B, Hk, S, Dv]"},
      {"mask",
       "Of a shape that broadcasts to [B, Hq, M, S]. bool: keys with False have no weight, but if "
       "a query sees no key, all have the same. Of another type it is a bias"},
      {"sinks", "[Hq]: a score for each head that takes part in the softmax and has no value"},
      {"bias", "As mask, of the type of q: added to the scores"},
      {"scale", "Of the scores before all else: 1 / sqrt(Dk) for most models"},
      {"causal", "1: no keys after the query's position"},
      {"window", "Above 0: only keys within so many positions, the query's own among them"}};
  doc.returns = "[B, Hq, M, Dv], in the type of q.";
  doc.errors =
      "Shapes that do not go together; key heads that do not divide the query heads; heads wider "
      "than 4096; a mask of numbers together with a bias.";
  return doc;
}

std::vector<spec::Dim> dims_of_heads() {
  const auto attribute = spec::Dim::Kind::attribute;
  return {{.name = "S", .free = true},
          {"B"},
          {"Hq"},
          {"Hk"},
          {.name = "M", .free = true},
          {"Dk"},
          {"Dv"},
          {.name = "causal", .kind = attribute},
          {.name = "window", .kind = attribute},
          {.name = "has_mask", .kind = attribute},
          {.name = "has_sinks", .kind = attribute},
          {.name = "has_bias", .kind = attribute}};
}

}  // namespace
}  // namespace attention

spec::Op make_attention() {
  using namespace attention;
  const auto scores = shape_of({"B", "Hq", "M", "S"});
  spec::Op op;
  op.name = "attention";
  op.summary = "softmax(scale q k^T) v of each head, with limits, masks, biases and sinks";
  op.doc = doc();
  op.inputs = {
      {.name = "q", .shape = shape_of({"B", "Hq", "M", "Dk"}), .strided = true},
      {.name = "k", .shape = shape_of({"B", "Hk", "S", "Dk"}), .strided = true},
      {.name = "v", .shape = shape_of({"B", "Hk", "S", "Dv"}), .strided = true},
      {.name = "mask",
       .shape = if_there("has_mask", scores),
       .type = Dtype::boolean,
       .strided = true,
       .optional = true},
      {.name = "sinks", .shape = if_there("has_sinks", head_shape), .optional = true},
      {.name = "bias", .shape = if_there("has_bias", scores), .strided = true, .optional = true}};
  op.outputs = {{"y", shape_of({"B", "Hq", "M", "Dv"})}};
  op.dims = dims_of_heads();
  op.batch_dim = "S";
  op.scalars = {{"scale", 0.125, {0.125, 0.0883883461}}};
  op.suites = suites();
  op.edge_sizes = edge_sizes();
  op.complete = complete;
  op.signature = signature;
  op.arrange = arrange;
  op.of_model = attention::model_sizes;
  op.cost = cost;
  op.mlx = mlx_form;
  op.fill = fill;
  op.mlx_rows = [](Dtype) { return kMlxRows; };
  op.is_sampled = is_sampled;
  op.reference = reference;
  op.bound = bound;
  op.variants = {cpu_variant(), metal_variant(), cuda_variant()};
  return op;
}

}  // namespace mlx_kd::kernels
