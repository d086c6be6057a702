#include "mlx_kd/kernels/matmul/model_sizes.h"

#include "mlx_kd/kernels/common/model_sizes.h"
#include "mlx_kd/kernels/matmul/reference.h"
#include "mlx_kd/kernels/matmul/weights64.h"

namespace mlx_kd::kernels::matmul {
namespace {

using spec::Dims;
using spec::ModelConfig;
using spec::ModelSizes;

constexpr Format kFourBits = {4, 64, kAffine}, kEightBits = {8, 64, kAffine};

// What is there beside x and W.
struct Extras {
  bool norm = false, bias = false, residual = false, gelu = false;
};

// Without M, which is set by whoever asks.
Dims size_of(const Kind& kind, const std::vector<int64_t>& rows, int64_t k, const Format& format,
             const Extras& extras) {
  Dims dims;
  const std::vector<std::string> names = rows_of(kind.form);
  for (size_t i = 0; i < names.size(); ++i) dims.set(names[i], rows[std::min(i, rows.size() - 1)]);
  dims.set("K", k);
  if (kind.form == Form::gated) dims.set("activation", extras.gelu);
  if (kind.quantised) {
    dims.set("bits", format.bits);
    dims.set("group", format.group);
    dims.set("mode", format.mode);
  }
  dims.set("has_norm", extras.norm);
  if (kind.form != Form::gated) dims.set("has_bias", extras.bias);
  if (kind.form == Form::single) dims.set("has_residual", extras.residual);
  return dims;
}

spec::Suite suite(const std::string& name, const Dims& size, const std::vector<int64_t>& counts) {
  spec::Suite result{name, {}};
  for (const int64_t m : counts) {
    Dims dims = {{"M", m}};
    for (const auto& [dim, value] : size.items()) dims.set(dim, value);
    result.sizes.push_back(dims);
  }
  return result;
}

struct Edge {
  int64_t m;
  std::vector<int64_t> rows;
  int64_t k;
  Format format;
  Extras extras;
};

int64_t mlp_width(const ModelConfig& config) {
  return config.first_of({"intermediate_size", "ffn_hidden_size", "block_ff_dim"},
                         "the width of the MLP");
}

std::vector<ModelSizes> single_sizes(const Kind& kind, const ModelConfig& config) {
  const Format format = stated_format(config);
  const int64_t hidden = hidden_width(config, "the width between layers");
  const int64_t heads = attention_heads(config, "the heads of attention");
  const int64_t width = head_width(config, heads);
  Extras residual, norm;
  residual.residual = norm.norm = true;
  std::vector<ModelSizes> sizes = {
      {"model", "hidden_size and intermediate_size: the MLP's product back, and its residual",
       size_of(kind, {hidden}, mlp_width(config), format, residual)},
      {"attention",
       "hidden_size and num_attention_heads x head_dim: attention's product back, and "
       "its residual",
       size_of(kind, {hidden}, heads * width, format, residual)}};
  if (const auto vocabulary = config.integer("vocab_size"))
    sizes.push_back({"head", "vocab_size and hidden_size: the logits, after the last norm",
                     size_of(kind, {*vocabulary}, hidden, format, norm)});
  return sizes;
}

}  // namespace

Format stated_format(const ModelConfig& config) {
  const auto part = config.part("quantization");
  if (!part) return kFourBits;
  Format format = {part->integer_or("bits", 4), part->integer_or("group_size", 64), kAffine};
  const std::string mode = part->text("mode");
  for (int64_t i = kMxfp4; i <= kNvfp4; ++i)
    if (mode == mlx_mode({0, 0, i})) format.mode = i;
  return format;
}

bool uses_gelu(const ModelConfig& config) {
  for (const char* field : {"hidden_activation", "hidden_act"})
    if (config.text(field).starts_with("gelu")) return true;
  return false;
}

std::vector<spec::Suite> suites_of(const Kind& kind) {
  Extras norm, residual;
  norm.norm = residual.residual = true;
  const std::vector<int64_t> counts = {1, 2, 4};
  const std::string bits = kind.quantised ? "_4bit" : "";
  if (kind.form == Form::gated)
    return {suite("llama_1b_decode" + bits, size_of(kind, {5632}, 2048, kFourBits, norm), counts),
            suite("llama_8b_decode" + bits, size_of(kind, {14336}, 4096, kFourBits, norm), {1})};
  if (kind.form == Form::queries)
    return {suite("llama_1b_decode" + bits, size_of(kind, {2048, 256, 256}, 2048, kFourBits, norm),
                  counts),
            suite("llama_8b_decode" + bits,
                  size_of(kind, {4096, 1024, 1024}, 4096, kFourBits, norm), {1})};
  if (kind.many_rows)
    return {suite("llama_1b_prompt" + bits, size_of(kind, {2048}, 2048, kFourBits, residual), {32}),
            suite("llama_1b_prompt_up" + bits, size_of(kind, {5632}, 2048, kFourBits, {}), {32}),
            suite("llama_1b_prompt_down" + bits, size_of(kind, {2048}, 5632, kFourBits, residual),
                  {32})};
  std::vector<spec::Suite> suites = {
      suite("llama_1b_decode" + bits, size_of(kind, {2048}, 2048, kFourBits, residual), counts),
      suite("llama_1b_down" + bits, size_of(kind, {2048}, 5632, kFourBits, residual), {1}),
      suite("llama_1b_head" + bits, size_of(kind, {32000}, 2048, kFourBits, norm), {1}),
      suite("llama_8b_decode" + bits, size_of(kind, {4096}, 4096, kFourBits, residual), {1})};
  if (kind.quantised)
    suites.push_back(
        suite("llama_1b_decode_8bit", size_of(kind, {2048}, 2048, kEightBits, residual), counts));
  return suites;
}

// Remainders of every vector and batch; all formats; extras by turns.
std::vector<Dims> edges_of(const Kind& kind) {
  const Edge edges[] = {{1, {1, 1, 1}, 32, {4, 32, kAffine}, {}},
                        {3, {17, 5, 40}, 160, {4, 32, kAffine}, {true, true, true, true}},
                        {2, {33, 16, 3}, 192, {2, 64, kAffine}, {false, true, false, false}},
                        {5, {9, 9, 9}, 96, {3, 32, kAffine}, {true, false, true, false}},
                        {1, {40, 8, 8}, 256, {5, 128, kAffine}, {false, false, true, true}},
                        {16, {19, 1, 2}, 64, {6, 64, kAffine}, {false, true, true, false}},
                        {9, {23, 33, 7}, 384, {8, 128, kAffine}, {true, false, false, true}},
                        {2, {11, 4, 4}, 64, {4, 32, kMxfp4}, {}},
                        {3, {8, 8, 2}, 96, {8, 32, kMxfp8}, {true, true, false, false}},
                        {1, {35, 70, 1}, 96, {4, 16, kNvfp4}, {false, false, true, true}}};
  std::vector<Dims> sizes;
  for (const Edge& edge : edges) {
    Dims dims = {{"M", kind.many_rows ? 5 * edge.m : edge.m}};
    // Dense rows may have any length.
    const int64_t k = kind.quantised ? edge.k : edge.k - edge.m % 3;
    const Dims others = size_of(kind, edge.rows, k, edge.format, edge.extras);
    for (const auto& [name, value] : others.items()) dims.set(name, value);
    sizes.push_back(dims);
  }
  return sizes;
}

std::vector<ModelSizes> sizes_of_model(const Kind& kind, const ModelConfig& config) {
  Extras norm;
  norm.norm = true;
  norm.gelu = uses_gelu(config);
  const int64_t hidden = hidden_width(config, "the width between layers");
  if (kind.form == Form::single) return single_sizes(kind, config);
  if (kind.form == Form::gated)
    return {{"model", "intermediate_size and hidden_size: gate and up of the MLP, after its norm",
             size_of(kind, {mlp_width(config)}, hidden, stated_format(config), norm)}};
  const int64_t heads = attention_heads(config, "the heads of attention");
  const int64_t width = head_width(config, heads), keys = key_heads(config, heads);
  norm.bias = config.flag("attention_bias") || config.is_type("qwen2");
  return {{"model", "heads x head_dim and hidden_size: queries, keys and values, after the norm",
           size_of(kind, {heads * width, keys * width, keys * width}, hidden, stated_format(config),
                   norm)}};
}

}  // namespace mlx_kd::kernels::matmul
