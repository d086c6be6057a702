#include "mlx_kd/base/json.h"

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

Json parse_json(std::string_view text, const std::string& room, const std::string& origin) {
  Strict strict(room, origin);
  try {
    return Json::parse(text.begin(), text.end(), std::ref(strict));
  } catch (const Json::parse_error& e) {
    misuse(room, origin + " is not JSON (byte " + std::to_string(e.byte) +
                     "): check that the file is whole");
  } catch (const Json::exception&) {
    misuse(room, origin + " holds a number that is too large: check that the file is whole");
  }
}

}  // namespace mlx_kd::base
