#include "mlx_kd/base/json.h"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <set>
#include <vector>

#include "mlx_kd/base/error.h"

namespace mlx_kd::base {
namespace {

constexpr int kMaxDepth = 64;
constexpr size_t kMaxShown = 80;  // characters of a key that a message repeats

// Refuses what nlohmann's parser lets pass: deep nesting, and a key that occurs twice in an object.
class Strict {
 public:
  Strict(const std::string& room, const std::string& origin) : room_(room), origin_(origin) {}

  bool operator()(int depth, Json::parse_event_t event, const Json& parsed) {
    if (depth > kMaxDepth)
      misuse(room_,
             origin_ + " is nested deeper than 64 levels: this program does not write such files");
    if (event == Json::parse_event_t::object_start) keys_.emplace_back();
    if (event == Json::parse_event_t::object_end) keys_.pop_back();
    if (event == Json::parse_event_t::key) see_key(parsed.get_ref<const std::string&>());
    return true;
  }

 private:
  void see_key(const std::string& key) {
    if (!keys_.back().insert(key).second)
      misuse(room_, origin_ + " has the key '" + key.substr(0, kMaxShown) +
                        "' twice in one object: keep one of them");
  }

  std::string room_, origin_;
  std::vector<std::set<std::string>> keys_;  // of the objects that are open
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
  Strict strict(room, origin);
  try {
    return Json::parse(text.begin(), text.end(), std::ref(strict));
  } catch (const Json::parse_error& e) {
    misuse(room,
           origin + " is not JSON (" + place_in(text, e.byte) + "): check that the file is whole");
  } catch (const Json::exception&) {
    misuse(room, origin + " holds a number that is too large: check that the file is whole");
  }
}

}  // namespace mlx_kd::base
