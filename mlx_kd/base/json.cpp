#include "mlx_kd/base/json.h"

#include "mlx_kd/base/error.h"

namespace mlx_kd::base {
namespace {

constexpr int kMaxDepth = 64;

}  // namespace

std::string canonical_json(const Json& value) {
  return value.dump(-1, ' ', /*ensure_ascii=*/true);
}

Json parse_json(std::string_view text, const std::string& room, const std::string& origin) {
  int deepest = 0;
  auto watch_depth = [&](int depth, Json::parse_event_t, Json&) {
    deepest = std::max(deepest, depth);
    if (depth > kMaxDepth)
      throw Error(
          "[" + room + "] " + origin + " is nested deeper than 64 levels: not a file of ours", 2);
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), watch_depth);
  } catch (const Json::parse_error& e) {
    misuse(room, origin + " is not JSON (byte " + std::to_string(e.byte) +
                     "): check that the file is whole");
  }
}

}  // namespace mlx_kd::base
