#include "mlx_kd/base/json.h"

#include <algorithm>
#include <cstdio>
#include <utility>
#include <vector>

#include "mlx_kd/base/error.h"

namespace mlx_kd::base {
namespace {

constexpr size_t kMaxDepth = 64;
constexpr size_t kMaxShown = 80;  // characters of a key that a message repeats

// Builds a value of what nlohmann's parser sees, in time that grows with the text: its own builder
// with a callback looks through all members of an object whenever one of them ends. Refuses what
// that one lets pass: deep nesting, and a key that occurs twice in an object.
class Builder : public nlohmann::json_sax<Json> {
 public:
  Builder(std::string room, std::string origin)
      : room_(std::move(room)), origin_(std::move(origin)) {}

  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(int64_t value) override { return put(value); }
  bool number_unsigned(uint64_t value) override { return put(value); }
  bool number_float(double value, const std::string&) override { return put(value); }
  bool string(std::string& value) override { return put(std::move(value)); }
  bool binary(Json::binary_t& value) override { return put(std::move(value)); }
  bool start_object(size_t) override { return open(Json::object()); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(std::string& name) override {
    const auto [member, is_new] = open_.back()->get_ref<Json::object_t&>().try_emplace(name);
    if (!is_new)
      misuse(room_, origin_ + " has the key '" + name.substr(0, kMaxShown) +
                        "' twice in one object: keep one of them");
    member_ = &member->second;
    return true;
  }
  bool parse_error(size_t byte, const std::string&, const Json::exception& error) override {
    byte_ = byte;
    is_json_ = dynamic_cast<const Json::parse_error*>(&error) == nullptr;
    return false;
  }

  Json take() { return std::move(root_); }
  size_t byte() const { return byte_; }      // that the parser stopped at, counted from 1
  bool is_json() const { return is_json_; }  // and what it stopped at is a number beyond double

 private:
  template <class Value>
  bool put(Value&& value) {
    place() = std::forward<Value>(value);
    return true;
  }
  bool open(Json container) {
    if (open_.size() == kMaxDepth)
      misuse(room_,
             origin_ + " is nested deeper than 64 levels: this program does not write such files");
    Json& here = place();
    here = std::move(container);
    open_.push_back(&here);
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }
  // Where the next value belongs.
  Json& place() {
    if (open_.empty()) return root_;
    if (!open_.back()->is_array()) return *member_;
    return open_.back()->get_ref<Json::array_t&>().emplace_back();
  }

  std::string room_, origin_;
  Json root_;
  std::vector<Json*> open_;  // arrays and objects, from the outermost on: only the last one grows
  Json* member_ = nullptr;   // whose key came last
  size_t byte_ = 0;
  bool is_json_ = false;
};

}  // namespace

std::string canonical_json(const Json& value) {
  return value.dump(-1, ' ', /*ensure_ascii=*/true);
}

// "line 5, column 3: found '}'" of the byte, counted from 1, that a parser stopped at.
static std::string place_in(std::string_view text, size_t byte) {
  const size_t at = std::min(byte > 0 ? byte - 1 : 0, text.size());
  const std::string_view before = text.substr(0, at);
  const size_t line = static_cast<size_t>(std::count(before.begin(), before.end(), '\n')) + 1;
  const size_t begin = before.rfind('\n');
  const size_t column = at - (begin == before.npos ? 0 : begin + 1) + 1;
  std::string found = "the end";
  if (at < text.size()) {
    const unsigned char c = static_cast<unsigned char>(text[at]);
    char hex[8];
    std::snprintf(hex, sizeof hex, "0x%02x", c);
    found = c > ' ' && c < 0x7f ? std::string("'") + static_cast<char>(c) + "'"
            : c == '\n'         ? "the end of the line"
                                : std::string("byte ") + hex;
  }
  return "line " + std::to_string(line) + ", column " + std::to_string(column) + ": found " + found;
}

Json parse_json(std::string_view text, const std::string& room, const std::string& origin) {
  Builder builder(room, origin);
  if (Json::sax_parse(text.begin(), text.end(), &builder)) return builder.take();
  if (builder.is_json())
    misuse(room, origin + " holds a number that is too large: check that the file is whole");
  misuse(room, origin + " is not JSON (" + place_in(text, builder.byte()) +
                   "): check that the file is whole");
}

}  // namespace mlx_kd::base
