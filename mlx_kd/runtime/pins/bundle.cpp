#include "mlx_kd/runtime/pins/bundle.h"

#include <array>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/sha256.h"

namespace mlx_kd::runtime {
namespace {

constexpr std::string_view kDigits =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::array<int, 256> values_of_digits() {
  std::array<int, 256> values;
  values.fill(-1);
  for (size_t i = 0; i < kDigits.size(); ++i)
    values[static_cast<unsigned char>(kDigits[i])] = static_cast<int>(i);
  return values;
}

[[noreturn]] void refuse_bundle(const std::string& what) {
  base::misuse("runtime", what + ": the bundle is damaged, make it again with kd bundle");
}

const std::string& text_of(const base::Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_string())
    refuse_bundle(std::string("its object has no text '") + name + "'");
  return found->get_ref<const std::string&>();
}

}  // namespace

std::string to_base64(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t at = 0; at < bytes.size(); at += 3) {
    const size_t count = std::min<size_t>(3, bytes.size() - at);
    uint32_t group = 0;
    for (size_t i = 0; i < 3; ++i)
      group = group << 8 | (i < count ? static_cast<unsigned char>(bytes[at + i]) : 0);
    for (size_t i = 0; i < 4; ++i) text += i <= count ? kDigits[group >> (18 - 6 * i) & 63] : '=';
  }
  return text;
}

std::string from_base64(std::string_view text) {
  static const std::array<int, 256> values = values_of_digits();
  if (text.size() % 4 != 0) refuse_bundle("its object is not base64");
  size_t padding = 0;
  while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=') ++padding;
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  for (size_t at = 0; at < text.size(); at += 4) {
    const size_t digits = at + 4 == text.size() ? 4 - padding : 4;
    uint32_t group = 0;
    for (size_t i = 0; i < 4; ++i) {
      const int value = i < digits ? values[static_cast<unsigned char>(text[at + i])] : 0;
      if (value < 0) refuse_bundle("its object is not base64");
      group = group << 6 | static_cast<uint32_t>(value);
    }
    for (size_t i = 0; i + 1 < digits; ++i) bytes += static_cast<char>(group >> (16 - 8 * i) & 255);
  }
  return bytes;
}

std::string object_of(const packs::Entry& entry) {
  const auto object = entry.other.find("object");
  if (object == entry.other.end()) return "";
  if (!object->is_object()) refuse_bundle("its object is not a JSON object");
  std::string bytes = from_base64(text_of(*object, "base64"));
  if (bytes.empty() || base::sha256_hex(bytes) != text_of(*object, "sha256"))
    refuse_bundle("its object is not what its sha256 says");
  return bytes;
}

void set_object(packs::Entry& entry, std::string_view object, const std::string& march) {
  entry.other["object"] = {
      {"sha256", base::sha256_hex(object)}, {"base64", to_base64(object)}, {"march", march}};
}

}  // namespace mlx_kd::runtime
