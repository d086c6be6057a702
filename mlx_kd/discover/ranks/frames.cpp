#include "mlx_kd/discover/ranks/frames.h"

#include <cstdint>
#include <cstdio>
#include <random>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/sha256.h"
#include "mlx_kd/discover/ranks/protocol.h"

namespace mlx_kd::discover {
namespace {

constexpr size_t kLengthBytes = 4, kBlock = 64, kLongestText = 1500;

[[noreturn]] void refuse_frame(const std::string& why) {
  base::misuse("discover", "a frame between ranks is damaged (" + why +
                               "): start all ranks with the same mlx-kd");
}

int hex_digit(char c) {
  return c <= '9' ? c - '0' : c - 'a' + 10;
}

std::string bytes_of_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes.push_back(static_cast<char>(16 * hex_digit(hex[i]) + hex_digit(hex[i + 1])));
  return bytes;
}

}  // namespace

std::string frame_bytes(const base::Json& value) {
  base::Json sent = value;
  for (auto& [key, field] : sent.items())
    if (field.is_string() && field.get_ref<const std::string&>().size() > kLongestText)
      field = field.get<std::string>().substr(0, kLongestText) + " ...";
  const std::string text = sent.dump(-1, ' ', false, base::Json::error_handler_t::replace);
  const auto length = static_cast<uint32_t>(text.size());
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<char>(length >> shift));
  return bytes + text;
}

std::optional<base::Json> FrameReader::next() {
  if (pending_.size() < kLengthBytes) return std::nullopt;
  size_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i)
    length = 256 * length + static_cast<unsigned char>(pending_[i]);
  if (length > kMaxFrame) refuse_frame(std::to_string(length) + " bytes");
  if (pending_.size() < kLengthBytes + length) return std::nullopt;
  const base::Json value = base::parse_json(std::string_view(pending_).substr(kLengthBytes, length),
                                            "discover", "a frame between ranks");
  pending_.erase(0, kLengthBytes + length);
  if (!value.is_object() || !value.contains("kind") || !value["kind"].is_string())
    refuse_frame("it has no kind");
  return value;
}

std::string hmac_hex(std::string_view key, std::string_view text) {
  std::string block(key.size() > kBlock ? bytes_of_hex(base::sha256_hex(key)) : std::string(key));
  block.resize(kBlock, '\0');
  std::string inner = block, outer = block;
  for (char& c : inner) c = static_cast<char>(c ^ 0x36);
  for (char& c : outer) c = static_cast<char>(c ^ 0x5c);
  return base::sha256_hex(outer + bytes_of_hex(base::sha256_hex(inner + std::string(text))));
}

bool same_proof(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned char>(a[i] ^ b[i]);
  return difference == 0;
}

std::string random_hex(size_t bytes) {
  std::random_device source;
  std::string result;
  char digits[9];
  while (result.size() < 2 * bytes) {
    std::snprintf(digits, sizeof digits, "%08x", source());
    result += digits;
  }
  result.resize(2 * bytes);
  return result;
}

}  // namespace mlx_kd::discover
