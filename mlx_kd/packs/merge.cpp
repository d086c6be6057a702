#include "mlx_kd/packs/merge.h"

#include <algorithm>
#include <cstdio>
#include <set>
#include <tuple>

#include "mlx_kd/base/error.h"
#include "mlx_kd/spec/order.h"
#include "mlx_kd/spec/protocol_name.h"

namespace mlx_kd::packs {
namespace {

using base::Json;

struct Item {
  const Entry* entry;
  std::string origin;
  std::string text;  // of the entry: makes the order total, so that no argument order shows through
};
using Items = std::vector<Item>;

bool item_before(const Item& a, const Item& b) {
  if (key_before(*a.entry, *b.entry)) return true;
  if (key_before(*b.entry, *a.entry)) return false;
  return std::tie(a.text, a.origin) < std::tie(b.text, b.origin);
}

Items sorted_items(const std::vector<Origin>& origins) {
  Items result;
  for (const Origin& origin : origins)
    for (const Entry& entry : origin.pack.entries)
      result.push_back({&entry, origin.name, base::canonical_json(to_json(entry))});
  std::sort(result.begin(), result.end(), item_before);
  return result;
}

[[noreturn]] void misuse_protocols(const Items& pin, const std::set<std::string>& protocols) {
  std::string where;
  for (const Item& item : pin) where += (where.empty() ? "" : ", ") + item.origin;
  base::misuse("packs", title(*pin[0].entry) + " (" + where + ") has times of the protocols " +
                            base::list_of(protocols) +
                            ", which cannot be compared: say --prefer-protocol with one of them");
}

// Takes the entries of other protocols out of the pin.
Items take_other_protocols(Items& pin, const std::string& preferred) {
  std::set<std::string> protocols;
  for (const Item& item : pin) protocols.insert(item.entry->protocol);
  if (protocols.size() == 1) return {};
  if (!protocols.count(preferred)) misuse_protocols(pin, protocols);
  const auto others = std::stable_partition(
      pin.begin(), pin.end(), [&](const Item& item) { return item.entry->protocol == preferred; });
  Items result(others, pin.end());
  pin.erase(others, pin.end());
  return result;
}

void rank(Items& pin) {
  std::vector<spec::Ranked> ranked;
  for (const Item& item : pin) ranked.push_back({&item.entry->metrics, item.entry->candidate_id});
  Items result;
  for (size_t index : spec::rank(ranked)) result.push_back(pin[index]);
  pin = std::move(result);
}

std::string us(double time) {
  char text[40];
  std::snprintf(text, sizeof text, "%.4g us", time);
  return text;
}

std::string why_dropped(const Item& loser, const Item& winner, bool by_kernel) {
  if (loser.text == winner.text) return "the same entry";
  const auto time = by_kernel ? &spec::Metrics::kernel_us : &spec::Metrics::latency_us;
  const double lost = loser.entry->metrics.*time, won = winner.entry->metrics.*time;
  const std::string& id = winner.entry->candidate_id;
  if (!std::isfinite(lost)) return "no time, where " + id + " has one";
  if (lost == won) return "as fast as " + id + ", which comes first";
  return "slower than " + id + ": " + us(lost) + ", not " + us(won);
}

// A range goes with the entry that states it.
std::string lost_range(const Item& loser, const Item& winner) {
  const std::string lost = ranges_text(*loser.entry);
  if (lost.empty() || !ranges_text(*winner.entry).empty()) return "";
  return "; with it goes its range, " + lost;
}

// The best of one pin into the result, the others into its list of dropped ones.
void settle(Items pin, const MergeOptions& options, MergeResult& result) {
  const std::string preferred = spec::protocol_name(options.prefer_protocol);
  const Items others = take_other_protocols(pin, preferred);
  rank(pin);
  const bool by_kernel = std::all_of(pin.begin(), pin.end(), [](const Item& item) {
    return std::isfinite(item.entry->metrics.kernel_us);
  });
  result.pack.entries.push_back(*pin[0].entry);
  for (size_t i = 1; i < pin.size(); ++i)
    result.dropped.push_back({*pin[i].entry, pin[i].origin,
                              why_dropped(pin[i], pin[0], by_kernel) + lost_range(pin[i], pin[0])});
  for (const Item& item : others)
    result.dropped.push_back(
        {*item.entry, item.origin,
         "its times are of protocol '" + item.entry->protocol + "', not '" + preferred + "'"});
}

// The members that both objects have with equal values.
Json common(const Json& a, const Json& b) {
  Json result = Json::object();
  for (const auto& [name, value] : a.items())
    if (b.contains(name) && b.at(name) == value) result[name] = value;
  return result;
}

}  // namespace

Json mixed_runtime(const Json& a, const Json& b) {
  Json result = common(a, b);
  for (const char* name : {"mlx_version", "device_name", "device_arch"})
    if (!result.contains(name)) result[name] = "mixed";
  return result;
}

MergeResult merge(const std::vector<Origin>& origins, const MergeOptions& options) {
  MergeResult result;
  const Items items = sorted_items(origins);
  for (const Item& item : items)
    if (is_null(*item.entry))
      base::misuse("packs", item.origin + ": the times of " + title(*item.entry) +
                                " were invented by the null device: measure on a real one");
  for (auto first = items.begin(); first != items.end();) {
    const auto last = std::find_if(first, items.end(), [&](const Item& item) {
      return key_before(*first->entry, *item.entry);
    });
    settle(Items(first, last), options, result);
    first = last;
  }
  for (size_t i = 0; i < origins.size(); ++i) {
    const Pack& pack = origins[i].pack;
    result.pack.runtime = i ? mixed_runtime(result.pack.runtime, pack.runtime) : pack.runtime;
    result.pack.other = i ? common(result.pack.other, pack.other) : pack.other;
  }
  return result;
}

}  // namespace mlx_kd::packs
