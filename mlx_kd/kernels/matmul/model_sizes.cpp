#include "mlx_kd/kernels/matmul/model_sizes.h"

#include <algorithm>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/common/model_sizes.h"
#include "mlx_kd/kernels/matmul/quantisation.h"
#include "mlx_kd/kernels/matmul/reference.h"
#include "mlx_kd/kernels/matmul/weights64.h"

namespace mlx_kd::kernels::matmul {
namespace {

using spec::Dims;
using spec::ModelConfig;
using spec::ModelSizes;

constexpr int64_t kMostLayers = 10000;
constexpr Format kFourBits = {4, 64, kAffine}, kEightBits = {8, 64, kAffine};

// What there is in addition to x and W.
struct Extras {
  bool norm = false, bias = false, residual = false, gelu = false;
};

// All dims but M, which the caller sets.
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

using Modules = std::vector<std::string>;  // other names of models for the same follow

bool is_same(const Format& a, const Format& b) {
  return a.bits == b.bits && a.group == b.group && a.mode == b.mode;
}

struct Share {
  Format format;
  int64_t layers;
};

// The formats of modules that one call takes together, and in how many of `layers` layers they have
// them. Layers in which they differ are none: no call takes them together.
std::vector<Share> shares(const ModelConfig& config, const Modules& modules, int64_t layers) {
  const Quantisation quantisation(config);
  std::vector<Share> result;
  for (int64_t layer = 0; layer < std::min(layers, kMostLayers); ++layer) {
    const Format format = quantisation.of(layer, modules.front());
    if (!std::all_of(modules.begin(), modules.end(), [&](const std::string& module) {
          return is_same(quantisation.of(layer, module), format);
        }))
      continue;
    const auto known = std::find_if(result.begin(), result.end(), [&](const Share& share) {
      return is_same(share.format, format);
    });
    if (known == result.end())
      result.push_back({format, 1});
    else
      ++known->layers;
  }
  return result;
}

// What the config states for all, or what models are converted to by default.
Format usual_format(const Kind& kind, const ModelConfig& config) {
  if (!kind.quantised) return {};
  const auto part = config.part("quantization");
  return part ? format_in(*part) : kFourBits;
}

// LFM2's code calls them otherwise than all others.
std::string down_name(const ModelConfig& config) {
  return config.is_type("lfm2") ? "w2" : "down_proj";
}
std::string out_name(const ModelConfig& config) {
  return config.is_type("lfm2") ? "out_proj" : "o_proj";
}
Modules gate_names(const ModelConfig& config) {
  return config.is_type("lfm2") ? Modules{"w1", "w3"} : Modules{"gate_proj", "up_proj"};
}

int64_t mlp_width(const ModelConfig& config) {
  return config.first_of({"intermediate_size", "ffn_hidden_size", "block_ff_dim"},
                         "the width of the MLP");
}

// A product of the model, in the usual format and in the others that the config states.
struct Place {
  std::string name, reason;
  Modules modules;
  std::vector<int64_t> rows;
  int64_t k;
  Extras extras;
  int64_t layers;
};

bool is_served(const Kind& kind, const Format& format) {
  return (format.mode != kDense) == kind.quantised;
}

void add_place(const Kind& kind, const ModelConfig& config, const Place& place,
               std::vector<ModelSizes>& sizes) {
  const auto add = [&](const std::string& name, const Format& format, int64_t layers) {
    ModelSizes size = {name, place.reason,
                       size_of(kind, place.rows, place.k, format, place.extras)};
    (kind.many_rows ? size.calls.prompt : size.calls.decode) = layers;
    sizes.push_back(size);
  };
  std::vector<Share> formats = shares(config, place.modules, place.layers);
  std::erase_if(formats, [&](const Share& share) { return !is_served(kind, share.format); });
  if (formats.empty()) formats = {{usual_format(kind, config), 0}};
  std::stable_sort(formats.begin(), formats.end(),
                   [](const Share& a, const Share& b) { return a.layers > b.layers; });
  for (size_t i = 0; i < formats.size(); ++i)
    add(i ? place.name + "_" + std::to_string(formats[i].format.bits) + "bit" : place.name,
        formats[i].format, formats[i].layers);
}

// Once per step, with the format of lm_head, or of the embedding that is used in its place. mlx-lm
// makes the logits of a prompt's last token alone.
void add_head(const Kind& kind, const ModelConfig& config, std::vector<ModelSizes>& sizes) {
  const auto vocabulary = config.integer("vocab_size");
  if (!vocabulary || kind.many_rows) return;
  const Format format =
      Quantisation(config).of(-1, config.flag("tie_word_embeddings") ? "embed_tokens" : "lm_head");
  const bool served = is_served(kind, format);
  ModelSizes size = {"head", "vocab_size and hidden_size: the logits, after the last norm",
                     size_of(kind, {*vocabulary}, hidden_width(config, "the width of the logits"),
                             served ? format : usual_format(kind, config), {})};
  size.calls.decode = served && layer_count(config) > 0;
  sizes.push_back(size);
}

int64_t projected_layers(const ModelConfig& config) {
  return has_latent_attention(config) ? 0 : attention_layers(config);
}

bool has_output_bias(const ModelConfig& config) {
  return config.flag("attention_bias") || config.is_type("gpt_oss");
}

bool has_query_bias(const ModelConfig& config) {
  return has_output_bias(config) || config.is_type("qwen2");
}

std::vector<ModelSizes> single_sizes(const Kind& kind, const ModelConfig& config) {
  const int64_t hidden = hidden_width(config, "the width between layers");
  const int64_t heads = attention_heads(config, "the heads of attention");
  const int64_t width = head_width(config, heads);
  Extras residual;
  residual.residual = !kind.many_rows;
  Extras back = residual;
  back.bias = has_output_bias(config);
  const std::string after = kind.many_rows ? "" : ", and its residual";
  std::vector<ModelSizes> sizes;
  add_place(kind, config,
            {"model",
             "hidden_size and intermediate_size: the MLP's product back" + after,
             {down_name(config)},
             {hidden},
             mlp_width(config),
             residual,
             dense_layers(config)},
            sizes);
  add_place(kind, config,
            {"output",
             "hidden_size and num_attention_heads x head_dim: attention's product back" + after,
             {out_name(config)},
             {hidden},
             heads * width,
             back,
             projected_layers(config)},
            sizes);
  add_head(kind, config, sizes);
  return sizes;
}

// A prompt's products, each by itself.
std::vector<ModelSizes> prompt_sizes(const Kind& kind, const ModelConfig& config) {
  std::vector<ModelSizes> sizes = single_sizes(kind, config);
  const int64_t hidden = hidden_width(config, "the width between layers");
  const int64_t heads = attention_heads(config, "the heads of attention");
  const int64_t width = head_width(config, heads), keys = key_heads(config, heads);
  Extras bias;
  bias.bias = has_query_bias(config);
  for (const char* module : {"gate_proj", "up_proj"})
    add_place(kind, config,
              {module,
               "intermediate_size and hidden_size: gate and up of the MLP",
               {module},
               {mlp_width(config)},
               hidden,
               {},
               dense_layers(config)},
              sizes);
  for (const char* module : {"q_proj", "k_proj", "v_proj"}) {
    const int64_t rows = module[0] == 'q' ? heads : keys;
    add_place(kind, config,
              {module,
               "heads x head_dim and hidden_size: queries, keys and values",
               {module},
               {rows * width},
               hidden,
               bias,
               projected_layers(config)},
              sizes);
  }
  return sizes;
}

}  // namespace

Format stated_format(const ModelConfig& config) {
  return usual_format({.quantised = true}, config);
}

bool uses_gelu(const ModelConfig& config) {
  for (const char* field : {"hidden_activation", "hidden_act"})
    if (config.text(field).starts_with("gelu")) return true;
  return false;
}

std::string gate_note(const ModelConfig& config) {
  const std::string gate = gate_activation(config);
  const bool is_computed =
      gate.empty() || gate == "silu" || gate.starts_with("swi") || gate.starts_with("gelu");
  return is_computed ? "" : "; but its gate is " + gate + ", which no product computes";
}

std::vector<ModelSizes> embedding_sizes(const ModelConfig& config) {
  const Format stated = Quantisation(config).of(-1, "embed_tokens");
  const Format format = stated.mode == kDense ? stated_format(config) : stated;
  const auto vocabulary = config.integer("vocab_size");
  if (!vocabulary)
    base::misuse("kernels", "the config of " + config.origin() +
                                " has no vocab_size, the rows of the embedding: give --shapes");
  ModelSizes size = {"model",
                     "vocab_size and hidden_size: the embedding of a step's tokens",
                     {{"V", *vocabulary},
                      {"K", hidden_width(config, "the width of the embedding")},
                      {"bits", format.bits},
                      {"group", format.group},
                      {"mode", format.mode},
                      {"has_like", format.mode != kAffine}}};
  size.calls.decode = size.calls.prompt = stated.mode != kDense && layer_count(config) > 0;
  return {size};
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
  if (kind.many_rows) return prompt_sizes(kind, config);
  if (kind.form == Form::single) return single_sizes(kind, config);
  Extras norm;
  norm.norm = true;
  norm.gelu = uses_gelu(config);
  const int64_t hidden = hidden_width(config, "the width between layers");
  std::vector<ModelSizes> sizes;
  if (kind.form == Form::gated) {
    add_place(kind, config,
              {"model",
               "intermediate_size and hidden_size: gate and up of the MLP, after its norm" +
                   gate_note(config),
               gate_names(config),
               {mlp_width(config)},
               hidden,
               norm,
               dense_layers(config)},
              sizes);
    return sizes;
  }
  const int64_t heads = attention_heads(config, "the heads of attention");
  const int64_t width = head_width(config, heads), keys = key_heads(config, heads);
  norm.bias = has_query_bias(config);
  add_place(kind, config,
            {"model",
             "heads x head_dim and hidden_size: queries, keys and values, after the norm",
             {"q_proj", "k_proj", "v_proj"},
             {heads * width, keys * width, keys * width},
             hidden,
             norm,
             projected_layers(config)},
            sizes);
  return sizes;
}

}  // namespace mlx_kd::kernels::matmul
