// rooms: kernels shapes
// Models' configs and logs of sizes with any content: sizes within their limits, or a message.
#include <cstdlib>

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
  try {
    if (size > 0 && data[size - 1] % 2)
      read_log(logged().dump() + "\n" + fuzz::changed(logged(), data, size) + "\n");
    else
      read_config(fuzz::changed(config(), data, size));
  } catch (const base::Error&) {
  }
  return 0;
}
