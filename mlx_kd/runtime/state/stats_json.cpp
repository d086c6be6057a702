#include "mlx_kd/base/json.h"
#include "mlx_kd/runtime/state/stats.h"

namespace mlx_kd::runtime {
namespace {

using Json = base::OrderedJson;

Json json_of(const PinStats& pin) {
  return {{"op", pin.op},        {"dtype", pin.dtype},
          {"shape", pin.shape},  {"candidate_id", pin.candidate_id},
          {"state", pin.state},  {"reason", pin.reason},
          {"hits", pin.hits},    {"compile_ms", pin.compile_ms},
          {"cached", pin.cached}};
}

Json json_of(const MissStats& miss) {
  return {{"op", miss.op},       {"dtype", miss.dtype},     {"shape", miss.shape},
          {"calls", miss.calls}, {"nearest", miss.nearest}, {"differs", miss.differs}};
}

Json json_of(const DefaultStats& one) {
  return {{"op", one.op}, {"dtype", one.dtype}, {"shape", one.shape}, {"calls", one.calls}};
}

Json json_of(const SkippedPin& skipped) {
  return {{"title", skipped.title}, {"reason", skipped.reason}};
}

template <class Items>
Json list_of(const Items& items) {
  Json list = Json::array();
  for (const auto& item : items) list.push_back(json_of(item));
  return list;
}

// Names and paths come from files: bytes that are not UTF-8 must not stop a report.
std::string text_of(const Json& json) {
  return json.dump(2, ' ', true, Json::error_handler_t::replace);
}

}  // namespace

std::string to_json(const Stats& stats) {
  return text_of({{"enabled", stats.enabled},
                  {"files", stats.files},
                  {"error", stats.error},
                  {"calls", stats.calls},
                  {"hits", stats.hits},
                  {"misses", stats.misses},
                  {"fallbacks", stats.fallbacks},
                  {"defaults", stats.defaults},
                  {"compile_ms", stats.compile_ms},
                  {"compiled", stats.compiled},
                  {"loaded", stats.loaded},
                  {"dropped", stats.dropped},
                  {"pins", list_of(stats.pins)},
                  {"missed", list_of(stats.missed)},
                  {"by_default", list_of(stats.by_default)},
                  {"skipped", list_of(stats.skipped)}});
}

std::string to_json(const Explanation& explanation) {
  return text_of({{"op", explanation.op},
                  {"dtype", explanation.dtype},
                  {"shape", explanation.shape},
                  {"pinned", explanation.pinned},
                  {"by_default", explanation.by_default},
                  {"candidate_id", explanation.candidate_id},
                  {"state", explanation.state},
                  {"reason", explanation.reason},
                  {"nearest", explanation.nearest},
                  {"differs", explanation.differs}});
}

}  // namespace mlx_kd::runtime
