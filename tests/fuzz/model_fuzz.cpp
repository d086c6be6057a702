// rooms: kernels shapes
// Models' configs, GGUF files and logs of sizes with any content: sizes within their limits, or a
// message.
#include <cstdlib>
#include <iterator>

#include "mlx_kd/base/error.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/shapes/model_sizes.h"
#include "mlx_kd/shapes/model_source.h"
#include "mlx_kd/shapes/shape_log.h"
#include "tests/fuzz/mutations.h"

namespace {

using namespace mlx_kd;
using base::Json;

Json config() {
  return {
      {"model_type", "qwen3_moe"},
      {"hidden_size", 2048},
      {"intermediate_size", 6144},
      {"moe_intermediate_size", 768},
      {"num_hidden_layers", 48},
      {"num_attention_heads", 32},
      {"num_key_value_heads", 4},
      {"head_dim", 128},
      {"num_experts", 128},
      {"num_experts_per_tok", 8},
      {"vocab_size", 151936},
      {"rms_norm_eps", 1e-6},
      {"rope_theta", 1000000},
      {"max_position_embeddings", 40960},
      {"hidden_act", "silu"},
      {"tie_word_embeddings", false},
      {"quantization", {{"bits", 4}, {"group_size", 64}}},
      {"text_config", {{"hidden_size", 1024}, {"qk_rope_head_dim", 64}, {"kv_lora_rank", 512}}}};
}

Json logged() {
  return {{"ts", "2026-03-01T09:30:00+01:00"},
          {"op_name", "rmsnorm"},
          {"dtype", "bfloat16"},
          {"shape_signature", {{"rows", 1}, {"D", 2048}}},
          {"source", "mlx_kd"},
          {"count", 256}};
}

void read_log(const std::string& text) {
  const auto log = shapes::read_shape_log(fuzz::write("shapes.ndjson", text), kernels::all_ops());
  for (const shapes::LoggedSize& size : log.sizes)
    if (size.count == 0) std::abort();
  shapes::damage_text(log);
}

template <class T>
void put(std::string& file, T value) {
  file.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void put_text(std::string& file, std::string_view text) {
  put<uint64_t>(file, text.size());
  file += text;
}

constexpr uint32_t kFloat = 6, kText = 8, kList = 9, kWhole = 10, kTypes = 13;

void put_value(std::string& file, uint32_t type, fuzz::Choices& choices) {
  static constexpr size_t kBytes[kTypes] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  if (type == kText)
    return put_text(file, std::string(choices.below(40), 'a' + choices.below(160)));
  if (type == kList) {
    const uint32_t items = static_cast<uint32_t>(choices.below(kTypes));
    const size_t count = choices.below(6);
    put(file, items);
    put<uint64_t>(file, choices.below(9) ? count : UINT64_MAX >> choices.below(64));
    for (size_t i = 0; i < count; ++i) put_value(file, items, choices);
  } else {
    for (size_t i = 0; i < (type < kTypes ? kBytes[type] : 4); ++i)
      file += static_cast<char>(i < 2 ? choices.below(256) : 0);
  }
}

// Keys of models with values of any type.
std::string gguf(fuzz::Choices& choices) {
  static constexpr const char* kKeys[] = {
      "general.architecture", "a.embedding_length",         "a.feed_forward_length",
      "a.block_count",        "a.attention.head_count",     "a.attention.head_count_kv",
      "a.rope.freq_base",     "a.attention.key_length",     "a.attention.value_length",
      "a.expert_count",       "a.attention.kv_lora_rank",   "a.vocab_size",
      "a.context_length",     "a.attention.sliding_window", "tokenizer.ggml.tokens"};
  std::string file = "GGUF";
  put<uint32_t>(file, 3 - static_cast<uint32_t>(choices.below(8) == 0));
  put<uint64_t>(file, 0);
  const size_t count = choices.below(20);
  put<uint64_t>(file, choices.below(16) ? count + 2 : UINT64_MAX >> choices.below(64));
  put_text(file, kKeys[0]);
  put(file, kText);
  put_text(file, choices.below(8) ? "a" : "\xff\xfe");
  put_text(file, kKeys[1]);
  put(file, kWhole);
  put<uint64_t>(file, 64 * choices.below(256));
  for (size_t i = 0; i < count; ++i) {
    put_text(file, choices.below(30) ? kKeys[choices.below(std::size(kKeys))] : "\xc3(");
    const uint32_t type = choices.below(2)   ? kWhole
                          : choices.below(4) ? static_cast<uint32_t>(choices.below(kTypes + 1))
                                             : kFloat;
    put(file, type);
    put_value(file, type, choices);
  }
  if (choices.below(4) == 0) file.resize(file.size() - choices.below(file.size()));
  return file;
}

void read_config(const std::string& text) {
  const spec::ModelConfig read = shapes::read_config({fuzz::write("config.json", text), ""});
  for (const spec::Op& op : kernels::all_ops()) {
    try {
      for (const auto& suggestion : shapes::suggest(op, read, {{1, 4}, {128}}))
        if (suggestion.sizes.empty()) std::abort();
    } catch (const base::Error&) {
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Choices choices(data, size);
  const uint8_t kind = size > 0 ? data[size - 1] % 3 : 0;
  try {
    if (kind == 2)
      read_config(choices.below(8)
                      ? gguf(choices)
                      : "GGUF" + std::string(reinterpret_cast<const char*>(data), size));
    else if (kind == 1)
      read_log(logged().dump() + "\n" + fuzz::changed(logged(), data, size) + "\n");
    else
      read_config(fuzz::changed(config(), data, size));
  } catch (const base::Error&) {
  }
  return 0;
}
