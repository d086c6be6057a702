#include <mlx/ops.h>

#include <cmath>
#include <limits>
#include <utility>

#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/common/metal_space.h"
#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/sampling/greedy_token/judge.h"

namespace mlx_kd::kernels {

spec::Op make_greedy_token();

namespace greedy_token {
namespace {

using spec::Dims;
using spec::Dtype;
using spec::Shape;
using enum spec::KnobScale;
using enum spec::KnobRole;

constexpr int64_t kFloatBytes = 4;

int64_t blocks_of(const Dims& dims, int64_t block) {
  return divide_up(dims.at("V"), block);
}

Shape by_row(const Dims& dims) {
  return {dims.at("B")};
}

// As mlx-lm samples at temperature 0.
spec::Op::Arrays mlx_form(const spec::Op::Arrays& in, std::span<const double>,
                          const mlx::core::Stream& s) {
  namespace mx = mlx::core;
  const mx::array logprobs = mx::subtract(in[0], mx::logsumexp(in[0], -1, true, s), s);
  const mx::array token = mx::argmax(logprobs, -1, true, s);
  const mx::array logprob = mx::take_along_axis(logprobs, token, -1, s);
  return {mx::squeeze(token, -1, s), mx::squeeze(logprob, -1, s)};
}

spec::Space cpu_space(Dtype, const spec::DeviceTraits& traits) {
  spec::Space space;
  space.knobs = {vector_knob(traits),
                 {"BLOCK", {4096, 1024, 2048, 8192, 16384}, log2, source, "logits of a unit"},
                 {"UNROLL", {4, 1, 2, 8}, log2, source, "steps a turn of the loops"},
                 {"DEGREE", {5, 4}, linear, source, "degree of the polynomial for 2^f - 1, over f"},
                 {"ESTRIN", {0, 1}, choice, source, "order of the polynomial", {"chain", "tree"}},
                 {"PREFETCH", {0, 512, 2048}, linear, source, "bytes ahead of the first loop"}};
  add_thread_knobs(space, traits, {1, 2, 4, 8, 16, 32}, "blocks");
  return space;
}

std::vector<spec::Stage> cpu_stages(const Dims& dims, const spec::Setting& knobs) {
  spec::Launch rows;
  rows.grid[0] = rows.group[0] = dims.at("B");
  return {{"mlx_kd_greedy_token",
           share_units(dims.at("B") * blocks_of(dims, knobs.at("BLOCK")), knobs)},
          {"mlx_kd_greedy_token_rows", rows}};
}

// The largest logit and the sum of every block.
std::vector<int64_t> scratch(const Dims& dims, int64_t block) {
  return std::vector<int64_t>(2, dims.at("B") * blocks_of(dims, block) * kFloatBytes);
}

spec::Space metal_space(Dtype, const spec::DeviceTraits&) {
  spec::Space space;
  space.knobs = {pack_knob(),
                 {"KEEP", {4, 1, 2, 8}, log2, source, "packs that a thread keeps"},
                 {"THREADS", {256, 64, 128, 512, 1024}, log2, source, "threads of a threadgroup"},
                 fast_knob("exponential")};
  return space;
}

// `threads` for each block of a row, then for each row.
std::vector<spec::Stage> gpu_stages(const Dims& dims, int64_t threads, int64_t block) {
  spec::Launch blocks, rows;
  blocks.group[0] = rows.group[0] = threads;
  blocks.grid[0] = dims.at("B") * blocks_of(dims, block) * threads;
  rows.grid[0] = dims.at("B") * threads;
  return {{"mlx_kd_greedy_token", blocks}, {"mlx_kd_greedy_token_rows", rows}};
}

int64_t metal_block(const spec::Setting& knobs) {
  return knobs.at("THREADS") * knobs.at("KEEP") * knobs.at("VEC");
}

spec::Space cuda_space(Dtype, const spec::DeviceTraits&) {
  spec::Space space;
  space.knobs = {{"KEEP", {1, 2, 4}, log2, source, "packs of 8 logits that a thread keeps"},
                 {"THREADS", {256, 64, 128, 512, 1024}, log2, source, "threads of a block"},
                 fast_knob("exponential")};
  return space;
}

int64_t cuda_block(const spec::Setting& knobs) {
  return knobs.at("THREADS") * knobs.at("KEEP") * 8;
}

// Rows in turn: one NaN; -inf alone; one +inf, and -inf; two +inf; two that differ by less than
// their rounded log probabilities can; equal ones; masked ones, the largest last; NaN and +inf.
void add_special_values(const std::vector<void*>& inputs, Dtype t, const Dims& dims) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  const int64_t count = dims.at("V"), middle = count / 2, last = count - 1;
  const float most = static_cast<float>(spec::largest_finite(t));
  for (int64_t row = 0; row < dims.at("B"); ++row) {
    const auto put = [&](int64_t at, float x) {
      spec::store_element(inputs[0], row * count + at, t, x);
    };
    const auto put_all = [&](float x) {
      for (int64_t i = 0; i < count; ++i) put(i, x);
    };
    const int64_t kind = row % 9;
    if (kind == 1) put_all(-inf);
    if (kind == 5) put_all(-2.5f);
    if (kind == 6) put_all(-inf);
    if (kind == 8) put_all(-most);
    if (kind == 0) put(middle, nan);
    if (kind == 2) put(0, -inf), put(middle, inf);
    if (kind == 3) put(middle, inf), put(last, inf);
    if (kind == 4) put(middle, 9), put(last, 9.03125f);
    if (kind == 6) put(middle, -3), put(last, 0.5f);
    if (kind == 7) put(0, inf), put(last, nan);
    if (kind == 8) put(last, most);
  }
}

std::vector<Dims> edge_sizes() {
  std::vector<Dims> sizes;
  for (const auto& [batch, count] :
       {std::pair{1, 1}, {9, 7}, {3, 64}, {18, 1023}, {2, 4097}, {4, 9001}, {8, 16391}})
    sizes.push_back({{"B", batch}, {"V", count}});
  return sizes;
}

spec::Suite suite(const std::string& name, int64_t count) {
  spec::Suite result{name, {}};
  for (const int64_t batch : {1, 2, 4, 8}) result.sizes.push_back({{"B", batch}, {"V", count}});
  return result;
}

spec::Variant variant_of(const std::string& language, const std::string& file,
                         const std::string& launch_kind) {
  spec::Variant variant;
  variant.name = "blocks";
  variant.language = language;
  variant.source = kernel_source("sampling/greedy_token/" + file);
  variant.func_name = "mlx_kd_greedy_token";
  variant.launch_kind = launch_kind;
  return variant;
}

spec::Variant cpu_variant() {
  spec::Variant variant = variant_of("cpp", "greedy_token.cpu.cpp", "cpp_arguments");
  variant.space = cpu_space;
  variant.stages = cpu_stages;
  variant.scratch = [](Dtype, const Dims& dims, const spec::Setting& knobs) {
    return scratch(dims, knobs.at("BLOCK"));
  };
  return variant;
}

spec::Variant metal_variant() {
  spec::Variant variant = variant_of("metal", "greedy_token.metal", "metal_blocks");
  variant.space = metal_space;
  variant.stages = [](const Dims& dims, const spec::Setting& knobs) {
    return gpu_stages(dims, knobs.at("THREADS"), metal_block(knobs));
  };
  variant.scratch = [](Dtype, const Dims& dims, const spec::Setting& knobs) {
    return scratch(dims, metal_block(knobs));
  };
  return variant;
}

spec::Variant cuda_variant() {
  spec::Variant variant = variant_of("cuda", "greedy_token.cu", "cuda_arguments");
  variant.space = cuda_space;
  variant.stages = [](const Dims& dims, const spec::Setting& knobs) {
    return gpu_stages(dims, knobs.at("THREADS"), cuda_block(knobs));
  };
  variant.scratch = [](Dtype, const Dims& dims, const spec::Setting& knobs) {
    return scratch(dims, cuda_block(knobs));
  };
  return variant;
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "The token of the largest log probability of each row of logits, as mlx-lm samples at "
      "temperature 0: the log probabilities x - logsumexp(x) are rounded to the type of the "
      "logits, "
      "and the lowest index among equal ones wins. The logits are read once.";
  doc.parameters = {{"logits", "[..., V], at least one axis."}};
  doc.returns =
      "The tokens [...] of type uint32, and their log probabilities [...] of the type of logits. "
      "Of "
      "a row with a NaN, an infinite logit or nothing but -inf, the token that mx.argmax gives on "
      "a "
      "CPU, and NaN.";
  doc.errors = "If logits has no axis.";
  return doc;
}

}  // namespace
}  // namespace greedy_token

spec::Op make_greedy_token() {
  using namespace greedy_token;
  spec::Op op;
  op.name = "greedy_token";
  op.summary = "token of the largest log probability, and that log probability, of each row";
  op.doc = doc();
  op.inputs = {{"logits", [](const Dims& dims) { return Shape{dims.at("B"), dims.at("V")}; }}};
  op.outputs = {{"token", by_row, Dtype::uint32, spec::Judge::residuals},
                {"logprob", by_row, {}, spec::Judge::residuals}};
  op.dims = {{"B", spec::Dim::Kind::dim, true, true}, {"V"}};
  op.batch_dim = "B";
  op.suites = {suite("llama3_decode", 128256), suite("llama2_decode", 32000),
               suite("qwen_decode", 152064), suite("gemma_decode", 262144)};
  op.edge_sizes = edge_sizes();
  op.of_model = [](const spec::ModelConfig& config) {
    return std::vector<spec::ModelSizes>{
        {"model",
         "vocab_size: the logits of the last position",
         {{"V", config.first_of({"vocab_size"}, "the width of the logits")}},
         1,
         true}};
  };
  op.cost = [](const Dims& dims, Dtype t) {
    const auto rows = static_cast<double>(dims.at("B")), size = static_cast<double>(size_of(t));
    const double count = rows * static_cast<double>(dims.at("V"));
    return spec::Cost{count * size + rows * (size + 4), 14 * count};
  };
  op.mlx = mlx_form;
  op.gradient = {spec::Gradient::By::none};
  op.add_special_values = add_special_values;
  op.residuals = greedy_token::residuals;
  op.variants = {cpu_variant(), metal_variant(), cuda_variant()};
  return op;
}

}  // namespace mlx_kd::kernels
