#include "mlx_kd/shapes/weights.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/json.h"

namespace mlx_kd::shapes {
namespace {

namespace fs = std::filesystem;
using base::Json;

constexpr uint64_t kMostHeader = 100 << 20;  // bytes, as the format has it

const char* const kEmbeddings[] = {
    "model.embed_tokens.weight", "language_model.model.embed_tokens.weight",
    "model.language_model.embed_tokens.weight", "embed_tokens.weight", "transformer.wte.weight"};

struct Embedding {
  std::string name, file;
  bool is_packed = false;  // codes in words of 32 bits
  int64_t columns = 0;
};

// Of a safetensors file: its arrays by name. Discarded where it is none.
Json header_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  unsigned char bytes[8];
  if (!in.read(reinterpret_cast<char*>(bytes), sizeof bytes)) return {};
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | bytes[i];
  if (length > kMostHeader) return {};
  std::string text(length, '\0');
  if (!in.read(text.data(), static_cast<std::streamsize>(length))) return {};
  return Json::parse(text, nullptr, false);
}

std::optional<Embedding> embedding_in(const fs::path& file) {
  const Json header = header_of(file);
  if (!header.is_object()) return std::nullopt;
  for (const char* name : kEmbeddings) {
    const Json array = header.value(name, Json());
    if (!array.is_object()) continue;
    const Json shape = array.value("shape", Json()), type = array.value("dtype", Json());
    if (!shape.is_array() || shape.size() != 2 || !shape[1].is_number_unsigned()) continue;
    return Embedding{name, file.string(), type == "U32", shape[1].get<int64_t>()};
  }
  return std::nullopt;
}

// Of the first file that has one, by name.
std::optional<Embedding> embedding_of(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files)
    if (const auto found = embedding_in(file)) return found;
  return std::nullopt;
}

// Bits of the embedding's codes, as the config states them; 0: it states none.
int64_t bits_of(const Embedding& embedding, const spec::ModelConfig& config) {
  const auto all = config.part("quantization");
  if (!all) return 0;
  const std::string path = embedding.name.substr(0, embedding.name.rfind('.'));
  const auto own = all->part(path);
  return (own ? *own : *all).integer_or("bits", 0);
}

}  // namespace

void check_weights(const fs::path& folder, const spec::ModelConfig& config) {
  const auto embedding = embedding_of(folder);
  const auto hidden = embedding ? config.integer("hidden_size") : std::nullopt;
  if (!hidden) return;
  const int64_t bits = embedding->is_packed ? bits_of(*embedding, config) : 0;
  if (embedding->is_packed && bits == 0) return;
  const int64_t columns = embedding->is_packed ? *hidden * bits / 32 : *hidden;
  if (embedding->columns == columns) return;
  const std::string codes = bits > 0 ? " in codes of " + std::to_string(bits) + " bits" : "";
  base::misuse("shapes", embedding->name + " in " + embedding->file + " has rows of " +
                             std::to_string(embedding->columns) + (bits > 0 ? " words" : "") +
                             ", and the hidden_size " + std::to_string(*hidden) + codes + " of " +
                             config.origin() + " takes " + std::to_string(columns) +
                             ": give a folder whose weights and config belong together");
}

}  // namespace mlx_kd::shapes
