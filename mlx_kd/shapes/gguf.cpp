// A GGUF file begins with "GGUF", a version (2 or 3), how many tensors and how many keys it has;
// then each key: a text, the type of its value, the value. A text is its length (64 bits) and its
// bytes; a list is the type of its items, their number, the items. All is little-endian.
#include "mlx_kd/shapes/gguf.h"

#include <array>
#include <bit>
#include <cstring>
#include <fstream>
#include <map>

#include "mlx_kd/base/error.h"

namespace mlx_kd::shapes {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF is read as it lies in the file");

constexpr uint64_t kMostKeys = 65536, kMostText = 1 << 20, kMostItems = 1 << 24, kMostKept = 4096;
enum class GgufType : uint32_t {
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  f32,
  boolean,
  text,
  list,
  u64,
  i64,
  f64
};

class GgufReader {
 public:
  explicit GgufReader(const std::filesystem::path& path)
      : path_(path), in_(path, std::ios::binary) {
    if (!in_) refuse("cannot be opened");
  }

  base::Json keys() {
    if (number<std::array<char, 4>>() != std::array<char, 4>{'G', 'G', 'U', 'F'})
      refuse("is not a GGUF file");
    if (const auto version = number<uint32_t>(); version < 2 || version > 3)
      refuse("has version " + std::to_string(version) + " of GGUF, and 2 and 3 are read");
    number<uint64_t>();  // tensors
    const auto count = number<uint64_t>();
    if (count > kMostKeys) refuse("claims to have " + std::to_string(count) + " keys");
    base::Json result = base::Json::object();
    for (uint64_t i = 0; i < count; ++i) {
      const std::string key = text();
      result[key] = value(number<GgufType>());
    }
    return result;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    base::misuse("shapes", path_.string() + " " + what +
                               ": give a whole GGUF file of a language model, its config.json, or "
                               "the sizes with --shapes");
  }

  template <class T>
  T number() {
    T result{};
    if (!in_.read(reinterpret_cast<char*>(&result), sizeof result)) refuse("ends early");
    return result;
  }

  std::string text() {
    const auto length = number<uint64_t>();
    if (length > kMostText) refuse("claims a text of " + std::to_string(length) + " bytes");
    std::string result(static_cast<size_t>(length), '\0');
    if (!in_.read(result.data(), static_cast<std::streamsize>(length))) refuse("ends early");
    return result;
  }

  // Long lists, which are vocabularies, as their length.
  base::Json list() {
    const auto type = number<GgufType>();
    const auto count = number<uint64_t>();
    if (count > kMostItems || type == GgufType::list)
      refuse("claims a list of " + std::to_string(count) + " items");
    base::Json items = base::Json::array();
    for (uint64_t i = 0; i < count; ++i) {
      base::Json item = value(type);
      if (count <= kMostKept) items.push_back(std::move(item));
    }
    return count <= kMostKept ? items : base::Json{{"items", count}};
  }

  base::Json value(GgufType type) {
    switch (type) {
      case GgufType::u8:
        return number<uint8_t>();
      case GgufType::i8:
        return number<int8_t>();
      case GgufType::u16:
        return number<uint16_t>();
      case GgufType::i16:
        return number<int16_t>();
      case GgufType::u32:
        return number<uint32_t>();
      case GgufType::i32:
        return number<int32_t>();
      case GgufType::f32:
        return number<float>();
      case GgufType::boolean:
        return number<uint8_t>() != 0;
      case GgufType::text:
        return text();
      case GgufType::list:
        return list();
      case GgufType::u64:
        return number<uint64_t>();
      case GgufType::i64:
        return number<int64_t>();
      case GgufType::f64:
        return number<double>();
    }
    refuse("has a value of type " + std::to_string(static_cast<uint32_t>(type)));
  }

  const std::filesystem::path path_;
  std::ifstream in_;
};

// Keys behind the architecture's name, and the fields that they are.
const std::map<std::string, std::string>& config_fields() {
  static const std::map<std::string, std::string> names = {
      {"embedding_length", "hidden_size"},
      {"feed_forward_length", "intermediate_size"},
      {"block_count", "num_hidden_layers"},
      {"context_length", "max_position_embeddings"},
      {"vocab_size", "vocab_size"},
      {"attention.head_count", "num_attention_heads"},
      {"attention.head_count_kv", "num_key_value_heads"},
      {"attention.key_length", "head_dim"},
      {"attention.value_length", "v_head_dim"},
      {"attention.q_lora_rank", "q_lora_rank"},
      {"attention.kv_lora_rank", "kv_lora_rank"},
      {"attention.sliding_window", "sliding_window"},
      {"attention.layer_norm_rms_epsilon", "rms_norm_eps"},
      {"rope.freq_base", "rope_theta"},
      {"expert_count", "num_experts"},
      {"expert_used_count", "num_experts_per_tok"},
      {"expert_feed_forward_length", "moe_intermediate_size"},
      {"expert_shared_feed_forward_length", "shared_expert_intermediate_size"},
      {"expert_shared_count", "n_shared_experts"}};
  return names;
}

}  // namespace

bool is_gguf(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  char begin[4] = {};
  return in.read(begin, sizeof begin) && std::memcmp(begin, "GGUF", sizeof begin) == 0;
}

base::Json gguf_config(const std::filesystem::path& path) {
  const base::Json keys = GgufReader(path).keys();
  const auto named = keys.find("general.architecture");
  const std::string architecture =
      named != keys.end() && named->is_string() ? named->get<std::string>() : "";
  base::Json config = {{"model_type", architecture}};
  for (const auto& [key, field] : config_fields())
    if (const auto found = keys.find(architecture + "." + key); found != keys.end())
      config[field] = *found;
  // A model without latent attention states the width of values, which is that of keys.
  const auto values = config.find("v_head_dim"), heads = config.find("head_dim");
  if (!config.contains("kv_lora_rank") && values != config.end() && heads != config.end() &&
      *values == *heads)
    config.erase(values);
  const auto tokens = keys.find("tokenizer.ggml.tokens");
  if (!config.contains("vocab_size") && tokens != keys.end())
    config["vocab_size"] = tokens->is_object() ? tokens->at("items").get<uint64_t>()
                                               : static_cast<uint64_t>(tokens->size());
  if (!config.contains("hidden_size"))
    base::misuse("shapes", path.string() + " is a GGUF file of '" + architecture.substr(0, 40) +
                               "', whose keys do not name the width of a language model: give the "
                               "sizes with --shapes");
  return config;
}

}  // namespace mlx_kd::shapes
