// How the fuzzers make an input from bytes: sound JSON, changed here and there.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "mlx_kd/base/error.h"
#include "mlx_kd/base/json.h"

namespace mlx_kd::fuzz {

using base::Json;

// What an input's bytes decide, one after the other.
class Choices {
 public:
  Choices(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  size_t below(size_t count) { return count ? next() % count : 0; }
  bool any_left() const { return at_ < size_; }

 private:
  uint8_t next() { return at_ < size_ ? data_[at_++] : 0; }
  const uint8_t* data_;
  size_t size_, at_ = 0;
};

inline Json odd_value(Choices& choices) {
  static const Json values[] = {nullptr,
                                true,
                                0,
                                -1,
                                1,
                                1024,
                                int64_t(1) << 31,
                                INT64_MAX,
                                INT64_MIN,
                                UINT64_MAX,
                                0.5,
                                1e308,
                                -0.0,
                                "",
                                "unknown",
                                "../../etc/passwd",
                                std::string("a\0b", 3),
                                "\xff\xfe",
                                std::string(5000, 'A'),
                                Json::array(),
                                Json::object(),
                                {1, "a", nullptr},
                                {{"rows", -5}, {"D", 0}},
                                {{"isa", {3}}, {"cores", "x"}},
                                "metal",
                                "float16",
                                "swiglu",
                                "rope"};
  return values[choices.below(std::size(values))];
}

// Changes one place of the value, found by going down at random.
inline void change(Json& value, Choices& choices) {
  Json* at = &value;
  while (at->is_structured() && !at->empty() && choices.below(8) != 0) {
    auto item = at->begin();
    std::advance(item, choices.below(at->size()));
    if (choices.below(12) == 0) {
      at->erase(item);
      return;
    }
    at = &*item;
  }
  if (at->is_object() && choices.below(3) == 0)
    (*at)[odd_value(choices).dump(-1, ' ', true, Json::error_handler_t::replace)] =
        odd_value(choices);
  else
    *at = odd_value(choices);
}

// `sound` with up to twelve changes, or the bytes as they come (a fifth of the inputs), or a part
// of the changed text.
inline std::string changed(Json sound, const uint8_t* data, size_t size) {
  Choices choices(data, size);
  const size_t kind = choices.below(10);
  if (kind >= 8) return {reinterpret_cast<const char*>(data), size};
  for (int i = 0; i < 12 && choices.any_left(); ++i) change(sound, choices);
  std::string text = sound.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (kind == 7) text.resize(choices.below(256) * text.size() / 256);
  return text;
}

// Reads what may be refused.
template <class Read>
void try_to(const Read& read) {
  try {
    read();
  } catch (const base::Error&) {
  }
}

// A folder of this process alone, in memory where the system has such a file system; gone at the
// end.
class Folder {
 public:
  Folder() {
    const std::filesystem::path memory = "/dev/shm";
    std::error_code ignored;
    const auto base =
        std::filesystem::exists(memory, ignored) ? memory : std::filesystem::temp_directory_path();
    std::string name = (base / "mlx_kd_fuzz.XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline const std::filesystem::path& folder() {
  static const Folder one;
  return one.path();
}

inline std::filesystem::path write(const std::string& name, std::string_view text) {
  const std::filesystem::path path = folder() / name;
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

}  // namespace mlx_kd::fuzz
