// sample_tokens: a token of each row of logits, drawn as mlx-lm draws it.
#include <algorithm>
#include <cmath>
#include <limits>

#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/common/cpu_space.h"
#include "mlx_kd/kernels/common/metal_space.h"
#include "mlx_kd/kernels/common/shapes.h"
#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/sampling/sample_tokens/chain.h"
#include "mlx_kd/kernels/sampling/sample_tokens/cuda_variant.h"
#include "mlx_kd/kernels/sampling/sample_tokens/judge.h"

namespace mlx_kd::kernels {

spec::Op make_sample_tokens();

namespace sample_tokens {
namespace {

using spec::Dims;
using spec::Dtype;
using spec::Shape;
using enum spec::KnobScale;
using enum spec::KnobRole;

constexpr int64_t kSettings = 7, kSmall = 64;
constexpr int64_t kTable = 1 << 16, kWholeTable = kTable + 64;

Shape logits(const Dims& dims) {
  return {dims.at("B"), dims.at("V")};
}
Shape by_row(const Dims& dims) {
  return {dims.at("B")};
}
Shape by_rank(const Dims& dims) {
  return {dims.at("B"), dims.at("top")};
}
Shape key(const Dims& dims) {
  return dims.at("keys") ? Shape{dims.at("keys"), 2} : Shape{2};
}
Shape special_tokens(const Dims& dims) {
  return {dims.at("special")};
}
Shape settings(const Dims& dims) {
  return dims.at("each_row") ? Shape{dims.at("B"), kSettings} : Shape{0};
}

[[noreturn]] void refuse(const std::string& name, const spec::ArrayView& array,
                         const std::string& wanted) {
  throw std::invalid_argument("[sample_tokens] " + name + " has shape " + shape_text(array.shape) +
                              ": give " + wanted);
}

void signature(std::span<const spec::ArrayView> in, std::span<const double>,
               std::span<int64_t> dims) {
  const auto shape = in[0].shape;
  if (shape.empty()) refuse("logits", in[0], "(..., V)");
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  const bool is_state = in[1].shape.size() == 1 && in[1].shape[0] == 2;
  const bool are_keys = in[1].shape.size() == 2 && in[1].shape[0] > 0 && in[1].shape[1] == 2;
  if (!is_state && !are_keys) refuse("key", in[1], "(2) for a state, or (draws, 2)");
  if (in[2].shape.size() != 1) refuse("special_tokens", in[2], "one axis, or leave it out");
  const auto given = in[3].shape;
  if (!is_left_out(in[3]) && (given.size() != 2 || given[0] != rows || given[1] != kSettings))
    refuse("settings", in[3], shape_text(Shape{rows, kSettings}) + ", or leave it out");
  if (dims[2] > shape.back())
    throw std::invalid_argument("[sample_tokens] top is " + std::to_string(dims[2]) +
                                ": give at most V = " + std::to_string(shape.back()));
  dims[0] = rows;
  dims[1] = shape.back();
  if (dims[3] > 1)
    throw std::invalid_argument("[sample_tokens] normalised is " + std::to_string(dims[3]) +
                                ": give 0 or 1");
  dims[4] = in[2].shape[0];
  dims[5] = !is_left_out(in[3]);
  dims[6] = are_keys ? in[1].shape[0] : 0;
  dims[7] = shape.size() == 1;
}

void fill_settings(float* to, base::Random& random) {
  const float temperatures[] = {1, 0.7f, 0, 1.5f}, top_ps[] = {0, 0.9f, 0.5f, 0.99f};
  const float min_ps[] = {0, 0.05f, 0, 0.3f};
  const float temperature = temperatures[random.below(4)], min_p = min_ps[random.below(4)];
  to[0] = temperature == 0 ? 0 : 1 / temperature;
  to[1] = top_ps[random.below(4)];
  to[2] = min_p == 0 ? -std::numeric_limits<float>::infinity() : std::log(min_p);
  to[3] = static_cast<float>(1 + random.below(3));
  to[4] = static_cast<float>(random.below(3) * 5);
  to[5] = static_cast<float>(random.below(3)) / 2;
  to[6] = 0.1f;
}

// x - logsumexp(x), so that they are log probabilities.
void normalise(std::vector<double>& x) {
  const double most = *std::max_element(x.begin(), x.end());
  double sum = 0;
  for (const double each : x) sum += std::exp(each - most);
  for (double& each : x) each -= most + std::log(sum);
}

// By row: a spread of 1, 2, 4 or 8; with special values also half of the tokens masked, and equals.
void fill_row(const spec::FillRequest& request, int64_t row, base::Random& random) {
  const int64_t count = request.dims.at("V");
  const bool special = request.distribution == spec::Distribution::special;
  std::vector<double> all;
  for (int64_t i = 0; i < count; ++i) {
    double x = std::ldexp(random.normal(), static_cast<int>((row + request.seed) % 4));
    if (special && row % 3 == 1) x = std::round(x);
    if (special && row % 3 == 2 && i > 0 && random.below(2) == 0)
      x = -std::numeric_limits<double>::infinity();
    if (request.distribution == spec::Distribution::magnitudes) x *= 4;
    all.push_back(x);
  }
  if (request.dims.at("normalised")) normalise(all);
  for (int64_t i = 0; i < count; ++i)
    spec::store_element(request.inputs[0], row * count + i, request.t,
                        static_cast<float>(all[static_cast<size_t>(i)]));
}

void fill(const spec::FillRequest& request) {
  base::Random random(request.seed * 37 + static_cast<uint64_t>(request.distribution));
  const Dims& dims = request.dims;
  for (int64_t row = 0; row < dims.at("B"); ++row) {
    fill_row(request, row, random);
    if (dims.at("each_row"))
      fill_settings(static_cast<float*>(request.inputs[3]) + row * kSettings, random);
  }
  for (int64_t i = 0; i < 2 * std::max<int64_t>(dims.at("keys"), 1); ++i)
    static_cast<uint32_t*>(request.inputs[1])[i] = static_cast<uint32_t>(random.next());
  for (int64_t i = 0; i < dims.at("special"); ++i)
    static_cast<int32_t*>(request.inputs[2])[i] =
        static_cast<int32_t>(random.below(static_cast<uint64_t>(dims.at("V"))));
}

std::vector<spec::Stage> stages(const Dims& dims, const spec::Setting& knobs) {
  const int64_t block = knobs.at("BLOCK"), blocks = (dims.at("V") + block - 1) / block;
  const spec::Launch parts = share_units(dims.at("B") * blocks, knobs);
  spec::Launch rows;
  rows.grid[0] = dims.at("B");
  rows.threads = static_cast<int>(std::min(dims.at("B"), knobs.at("THREADS")));
  // Of a row, for top_p: each has copies of the counts of its own, of which there are four.
  const int64_t shares = knobs.at("THREADS") < 2 ? 1 : knobs.at("THREADS") < 4 ? 2 : 4;
  spec::Launch shared;
  shared.grid[0] = dims.at("B") * shares;
  shared.threads = static_cast<int>(std::min(shared.grid[0], knobs.at("THREADS")));
  std::vector<spec::Stage> all = {{"mlx_kd_sample_tokens", parts}};
  if (!dims.at("normalised")) all.push_back({"mlx_kd_sample_tokens_exps", parts});
  all.insert(all.end(), {{"mlx_kd_sample_tokens_sums", rows},
                         {"mlx_kd_sample_tokens_counts", shared, shares},
                         {"mlx_kd_sample_tokens_places", rows},
                         {"mlx_kd_sample_tokens_order", shared, shares},
                         {"mlx_kd_sample_tokens_powers", shared, shares},
                         {"mlx_kd_sample_tokens_rows", rows}});
  return all;
}

// The largest of small blocks; weights; candidates, and groups of them; counts.
std::vector<int64_t> scratch(Dtype, const Dims& dims, const spec::Setting&) {
  const int64_t rows = dims.at("B"), count = dims.at("V");
  return {rows * (divide_up(count, kSmall)) * 4, rows * std::max(count, kTable) * 4,
          rows * (count + kSmall) * 8, rows * kWholeTable * 4};
}

spec::Space space(Dtype, const spec::DeviceTraits& traits) {
  spec::Space space;
  space.knobs = {{"BLOCK",
                  {4096, 512, 1024, 2048, 8192, 16384, 32768, 65536},
                  log2,
                  source,
                  "logits of a unit"}};
  add_thread_knobs(space, traits, {1, 2, 4, 8, 16, 32, 64}, "blocks");
  return space;
}

spec::Variant variant_of(const std::string& language, const std::string& file,
                         const std::string& launch_kind) {
  spec::Variant variant;
  variant.name = "rows";
  variant.language = language;
  variant.source = kernel_source("sampling/sample_tokens/" + file);
  variant.func_name = "mlx_kd_sample_tokens";
  variant.launch_kind = launch_kind;
  return variant;
}

spec::Variant cpu_variant() {
  spec::Variant variant = variant_of("cpp", "sample_tokens.cpu.cpp", "cpp_arguments");
  variant.space = space;
  variant.stages = stages;
  variant.scratch = scratch;
  return variant;
}

spec::Variant metal_variant() {
  spec::Variant variant = variant_of("metal", "sample_tokens.metal", "metal_rows");
  variant.space = [](Dtype, const spec::DeviceTraits&) {
    spec::Space space;
    space.knobs = {{"THREADS", {256, 128, 512, 1024}, log2, source, "threads of a threadgroup"},
                   fast_knob("exponential")};
    return space;
  };
  variant.launch = [](const Dims& dims, const spec::Setting& knobs) {
    spec::Launch launch;
    launch.group[0] = knobs.at("THREADS");
    launch.grid[0] = dims.at("B") * knobs.at("THREADS");
    return launch;
  };
  return variant;
}

spec::Doc doc() {
  spec::Doc doc;
  doc.brief =
      "A token of each row of logits, drawn as mlx-lm's sampler draws it on MLX's CPU back end "
      "and, from 16 bits without xtc, on its CUDA back end, bit for bit and without a sort. Log "
      "probabilities x - logsumexp(x), rounded to the type of "
      "the logits, pass top_p, min_p, xtc and top_k in this order, and a token is drawn from what "
      "is left. One row [1, V] is drawn by the inverse of its cumulative distribution; several "
      "rows, "
      "and logits [V], with Gumbel noise; rows with settings one after the other, as single rows.";
  doc.parameters = {
      {"logits", "[..., V], at least one axis."},
      {"key",
       "uint32 [2], a state that is split for each draw as mx.random.state is, or [draws, "
       "2], the keys of the draws."},
      {"special_tokens", "int32 [n] that xtc leaves in; or None."},
      {"settings",
       "float32 [rows, 7], which replace the numbers below for each row: 1 / temperature or 0, "
       "top_p, log(min_p) or -inf, min_tokens_to_keep, top_k, xtc_probability, xtc_threshold; or "
       "None."},
      {"temperature", "0: the first of the largest log probabilities."},
      {"top_p", "0, and 1 or more: off."},
      {"min_p", "0: off."},
      {"min_tokens_to_keep", "Of min_p."},
      {"top_k", "0, and V or more: off."},
      {"xtc_probability", "0: off."},
      {"xtc_threshold", "Of xtc."},
      {"top", "How many of the largest log probabilities are returned, 0 to V."},
      {"normalised", "1: logits are log probabilities, from which nothing is subtracted."}};
  doc.returns =
      "The tokens [...] of type uint32, their log probabilities [...] of float32, and the ids "
      "uint32 [..., top] and float32 log probabilities [..., top] of the largest, in order. A row "
      "with NaN or +inf, or of -inf alone, has token 0 and NaN.";
  doc.errors = "If the shapes do not go together, or a number is out of range.";
  return doc;
}

struct Form {
  int64_t top = 0, normalised = 0, special = 0, each_row = 0, keys = 0, vector = 0;
};

Dims size_of(int64_t rows, int64_t count, const Form& form = {}) {
  return {{"B", rows},
          {"V", count},
          {"top", form.top},
          {"normalised", form.normalised},
          {"special", form.special},
          {"each_row", form.each_row},
          {"keys", form.keys},
          {"vector", form.vector}};
}

spec::Suite suite(const std::string& name, int64_t count) {
  return {name, {size_of(1, count), size_of(4, count, {.each_row = 1})}};
}

std::vector<spec::Scalar> scalars() {
  std::vector<spec::Scalar> all(7);
  all[0] = {.name = "temperature", .default_value = 1, .proved = {1, 0.7, 0}, .least = 0};
  all[1] = {.name = "top_p", .default_value = 0, .proved = {0, 0.9}};
  all[2] = {.name = "min_p", .default_value = 0, .proved = {0, 0.05}, .least = 0, .most = 1};
  all[3] = {.name = "min_tokens_to_keep",
            .default_value = 1,
            .proved = {1, 3},
            .least = 1,
            .integer = true};
  all[4] = {.name = "top_k", .default_value = 0, .proved = {0, 20}, .integer = true};
  all[5] = {
      .name = "xtc_probability", .default_value = 0, .proved = {0, 0.5}, .least = 0, .most = 1};
  all[6] = {
      .name = "xtc_threshold", .default_value = 0.1, .proved = {0.1}, .least = 0, .most = 0.5};
  return all;
}

std::vector<spec::Dim> all_dims() {
  using enum spec::Dim::Kind;
  return {{"B", dim, true, true},
          {"V"},
          {.name = "top", .kind = attribute},
          {.name = "normalised", .kind = attribute},
          {.name = "special", .kind = attribute},
          {.name = "each_row", .kind = attribute},
          {.name = "keys", .kind = attribute},
          {.name = "vector", .kind = attribute}};
}

std::vector<spec::Port> inputs() {
  return {
      {"logits", logits},
      {"key", key, Dtype::uint32},
      {.name = "special_tokens", .shape = special_tokens, .type = Dtype::int32, .optional = true},
      {.name = "settings", .shape = settings, .type = Dtype::float32, .optional = true}};
}

std::vector<Dims> edge_sizes() {
  return {size_of(1, 1),
          size_of(1, 257, {.top = 3, .special = 1}),
          size_of(5, 63),
          size_of(8, 1000, {.special = 2, .each_row = 1}),
          size_of(1, 5000, {.top = 20, .keys = 2}),
          size_of(2, 9001, {.normalised = 1})};
}

spec::Cost cost(const Dims& dims, Dtype t) {
  const double count = static_cast<double>(dims.at("B") * dims.at("V"));
  int64_t words = 2 * dims.at("B") * (1 + dims.at("top")) + dims.at("special");  // of 4 bytes
  for (const Shape& shape : {key(dims), settings(dims)}) words += spec::element_count(shape);
  return {count * static_cast<double>(size_of(t)) + 4.0 * static_cast<double>(words), 14 * count};
}

}  // namespace
}  // namespace sample_tokens

spec::Op make_sample_tokens() {
  using namespace sample_tokens;
  using spec::Judge;
  spec::Op op;
  op.name = "sample_tokens";
  op.summary = "a token of each row of logits, drawn as mlx-lm draws it";
  op.doc = sample_tokens::doc();
  op.inputs = sample_tokens::inputs();
  op.outputs = {{"token", by_row, Dtype::uint32, Judge::residuals},
                {"logprob", by_row, Dtype::float32, Judge::residuals},
                {"top_tokens", by_rank, Dtype::uint32, Judge::residuals},
                {"top_logprobs", by_rank, Dtype::float32, Judge::residuals}};
  op.dims = all_dims();
  op.batch_dim = "B";
  op.scalars = scalars();
  op.suites = {suite("qwen_decode", 152064), suite("llama3_decode", 128256),
               suite("llama2_decode", 32000)};
  op.edge_sizes = sample_tokens::edge_sizes();
  op.of_model = [](const spec::ModelConfig& config) {
    return std::vector<spec::ModelSizes>{
        {"model",
         "vocab_size: the logits of the last position",
         {{"V", config.first_of({"vocab_size"}, "the width of the logits")}},
         1,
         true}};
  };
  op.cost = sample_tokens::cost;
  op.signature = sample_tokens::signature;
  op.composition = sample_tokens::chain;
  op.gradient = {spec::Gradient::By::none};
  op.fill = sample_tokens::fill;
  op.residuals = sample_tokens::residuals;
  op.variants = {cpu_variant(), metal_variant(), cuda_variant()};
  return op;
}

}  // namespace mlx_kd::kernels
