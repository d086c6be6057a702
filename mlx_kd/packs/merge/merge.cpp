#include "mlx_kd/packs/merge/merge.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <mutex>
#include <set>
#include <tuple>
#include <utility>

#include "mlx_kd/base/error.h"
#include "mlx_kd/spec/order.h"
#include "mlx_kd/spec/protocol_name.h"

namespace mlx_kd::packs {

using base::Json;

namespace merging {

// What stays of every entry that was added.
struct Row {
  spec::Metrics metrics;
  std::string candidate_id, protocol, origin, ranges;
  uint64_t digest;  // of the whole entry: makes the order total
};

// An entry that may still be the best, without the source where the pool has it. Its JSON is text:
// as values it would take ten times the memory, and most of these entries are never written.
struct Kept {
  Entry entry;
  std::string json;
};

struct Best {
  const Row* row = nullptr;
  std::shared_ptr<Kept> kept;
};

struct OfProtocol {
  Best by_kernel, by_latency;  // of the rows that have kernel_us; of all
};

struct Pin {
  std::string title;
  std::vector<std::unique_ptr<Row>> rows;
  std::map<std::string, OfProtocol> best;  // by protocol
};

}  // namespace merging

namespace {

using merging::Best;
using merging::Kept;
using merging::OfProtocol;
using merging::Pin;
using merging::Row;

template <class AnyEntry>
auto json_of(AnyEntry& e) {
  return std::array{&e.inputs_spec,    &e.outputs_spec, &e.knobs, &e.launch_params,
                    &e.runtime_inputs, &e.target,       &e.proof, &e.other};
}

std::shared_ptr<Kept> keep(Entry entry) {
  Json values = Json::array();
  for (Json* value : json_of(entry)) values.push_back(std::exchange(*value, Json()));
  std::string text = values.dump(-1, ' ', false, Json::error_handler_t::replace);
  text.shrink_to_fit();
  return std::make_shared<Kept>(Kept{std::move(entry), std::move(text)});
}

Entry whole(Kept&& kept) {
  Json values = Json::parse(kept.json);
  size_t i = 0;
  for (Json* value : json_of(kept.entry)) *value = std::move(values[i++]);
  return std::move(kept.entry);
}

// Of all that an entry states. (Its text would take twice as long as reading the entry.)
uint64_t digest_of(const Entry& e) {
  uint64_t digest = 0;
  const auto add = [&](uint64_t hash) {
    digest = (digest ^ hash) * 0x9e3779b97f4a7c15u;
    digest ^= digest >> 29;
  };
  for (const std::string* text : {&e.candidate_id, &e.func_name, &e.language, &e.source,
                                  &e.source_hash, &e.protocol, &e.key.mlx_version})
    add(std::hash<std::string>()(*text));
  for (const Json* value : json_of(e)) add(std::hash<Json>()(*value));
  add(std::hash<Json>()(spec::to_json(e.metrics)));
  add(std::hash<std::string>()(ranges_text(e)));
  return digest;
}

// The members that both objects have with equal values.
Json common(const Json& a, const Json& b) {
  Json result = Json::object();
  for (const auto& [name, value] : a.items())
    if (b.contains(name) && b.at(name) == value) result[name] = value;
  return result;
}

// Sorted by what spec::rank does not look at, then by that.
std::vector<const Row*> ranked(std::vector<const Row*> rows) {
  std::sort(rows.begin(), rows.end(), [](const Row* a, const Row* b) {
    return std::tie(a->digest, a->origin) < std::tie(b->digest, b->origin);
  });
  std::vector<spec::Ranked> list;
  for (const Row* row : rows) list.push_back({&row->metrics, row->candidate_id});
  std::vector<const Row*> result;
  for (const size_t index : spec::rank(list)) result.push_back(rows[index]);
  return result;
}

// As ranked() of two rows, of which one may be missing; by_latency: as if none had kernel_us.
bool is_better(const Row& row, const Row* than, bool by_latency) {
  if (!than) return true;
  spec::Metrics a = row.metrics, b = than->metrics;
  if (by_latency) a.kernel_us = b.kernel_us = spec::kUnmeasured;
  if (spec::ranks_before(a, row.candidate_id, b, than->candidate_id)) return true;
  if (spec::ranks_before(b, than->candidate_id, a, row.candidate_id)) return false;
  return std::tie(row.digest, row.origin) < std::tie(than->digest, than->origin);
}

std::string us(double time) {
  char text[40];
  std::snprintf(text, sizeof text, "%.4g us", time);
  return text;
}

std::string why_slower(const Row& loser, const Row& winner, bool by_kernel) {
  if (loser.digest == winner.digest) return "the same entry";
  const auto time = by_kernel ? &spec::Metrics::kernel_us : &spec::Metrics::latency_us;
  const double lost = loser.metrics.*time, won = winner.metrics.*time;
  const std::string& id = winner.candidate_id;
  if (!std::isfinite(lost)) return "no time, where " + id + " has one";
  if (lost == won) return "as fast as " + id + ", which comes first";
  return "slower than " + id + ": " + us(lost) + ", not " + us(won);
}

// A range goes with the entry that states it.
std::string why_dropped(const Row& loser, const Row& winner, bool by_kernel) {
  const bool loses_range = !loser.ranges.empty() && winner.ranges.empty();
  return why_slower(loser, winner, by_kernel) +
         (loses_range ? "; with it goes its range, " + loser.ranges : "");
}

[[noreturn]] void misuse_protocols(const Pin& pin) {
  std::set<std::string> protocols, where;
  for (const auto& row : pin.rows) protocols.insert(row->protocol), where.insert(row->origin);
  std::string origins;
  for (const std::string& origin : where) {
    if (origins.size() > 200) {
      origins += ", ...";
      break;
    }
    origins += (origins.empty() ? "" : ", ") + origin;
  }
  base::misuse("packs", pin.title + " (" + origins + ") has times of the protocols " +
                            base::list_of(protocols) +
                            ", which cannot be compared: say --prefer-protocol with one of them");
}

Disagreement::Side side_of(const Row& row) {
  const spec::Metrics& m = row.metrics;
  return {row.origin, m.speedup_vs_ref, m.speedup_lo, m.speedup_hi};
}

// Of each kernel whose intervals do not all meet.
void add_disagreements(const std::vector<const Row*>& rows, size_t winner, MergeResult& result) {
  std::map<std::string, std::vector<const Row*>> of_kernel;
  for (const Row* row : rows)
    if (std::isfinite(row->metrics.speedup_lo) && std::isfinite(row->metrics.speedup_hi))
      of_kernel[row->candidate_id].push_back(row);
  for (const auto& [id, measured] : of_kernel) {
    const Row* low = *std::min_element(measured.begin(), measured.end(), [](auto* a, auto* b) {
      return a->metrics.speedup_hi < b->metrics.speedup_hi;
    });
    const Row* high = *std::max_element(measured.begin(), measured.end(), [](auto* a, auto* b) {
      return a->metrics.speedup_lo < b->metrics.speedup_lo;
    });
    if (low->metrics.speedup_hi < high->metrics.speedup_lo)
      result.disagreements.push_back({winner, id, side_of(*low), side_of(*high)});
  }
}

}  // namespace

struct Merger::State {
  MergeOptions options;
  std::mutex mutex;
  std::map<PinOrder, Pin> pins;
  std::map<std::string, std::string> sources;  // by source_hash, where the entries agree on it
  Json runtime, other;

  void take(const std::string& origin, Entry entry);
  void pool_source(Entry& entry);
  void settle(Pin& pin, MergeResult& result);
};

// Entries of one source share its text.
void Merger::State::pool_source(Entry& entry) {
  const auto [at, is_new] = sources.try_emplace(entry.source_hash, entry.source);
  if (at->second == entry.source) std::string().swap(entry.source);  // and its memory
}

void Merger::State::take(const std::string& origin, Entry entry) {
  auto row = std::make_unique<Row>(Row{entry.metrics, entry.candidate_id, entry.protocol, origin,
                                       ranges_text(entry), digest_of(entry)});
  PinOrder order = order_of(entry);
  const std::lock_guard lock(mutex);
  const auto [at, is_new] = pins.try_emplace(std::move(order));
  Pin& pin = at->second;
  if (is_new) pin.title = title(entry);
  OfProtocol& best = pin.best[entry.protocol];
  const bool by_kernel =
      std::isfinite(entry.metrics.kernel_us) && is_better(*row, best.by_kernel.row, false);
  const bool by_latency = is_better(*row, best.by_latency.row, true);
  if (by_kernel || by_latency) {
    pool_source(entry);
    const auto kept = keep(std::move(entry));
    if (by_kernel) best.by_kernel = {row.get(), kept};
    if (by_latency) best.by_latency = {row.get(), kept};
  }
  pin.rows.push_back(std::move(row));
}

// The best of one pin into the result, the others into its list of dropped ones.
void Merger::State::settle(Pin& pin, MergeResult& result) {
  const std::string preferred =
      pin.best.size() == 1 ? pin.best.begin()->first : spec::protocol_name(options.prefer_protocol);
  const auto best = pin.best.find(preferred);
  if (best == pin.best.end()) misuse_protocols(pin);
  std::vector<const Row*> rows, others;
  for (const auto& row : pin.rows)
    (row->protocol == preferred ? rows : others).push_back(row.get());
  rows = ranked(std::move(rows));
  const bool by_kernel = std::all_of(rows.begin(), rows.end(), [](const Row* row) {
    return std::isfinite(row->metrics.kernel_us);
  });
  const size_t winner = result.pack.entries.size();
  const Best& taken = by_kernel ? best->second.by_kernel : best->second.by_latency;
  Entry entry = whole(std::move(*taken.kept));
  if (entry.source.empty()) entry.source = sources.at(entry.source_hash);
  result.pack.entries.push_back(std::move(entry));
  for (size_t i = 1; i < rows.size(); ++i)
    result.dropped.push_back({winner, rows[i]->candidate_id, rows[i]->origin,
                              why_dropped(*rows[i], *rows[0], by_kernel)});
  for (const Row* row : ranked(std::move(others)))
    result.dropped.push_back(
        {winner, row->candidate_id, row->origin,
         "its times are of protocol '" + row->protocol + "', not '" + preferred + "'"});
  add_disagreements(rows, winner, result);
}

Merger::Merger(const MergeOptions& options) : state_(std::make_unique<State>()) {
  state_->options = options;
}

Merger::~Merger() = default;

void Merger::add(const std::string& origin, Pack pack) {
  for (const Entry& entry : pack.entries)
    if (is_null(entry))
      base::misuse("packs", origin + ": the times of " + title(entry) +
                                " were invented by the null device: measure on a real one");
  for (Entry& entry : pack.entries) state_->take(origin, std::move(entry));
  const std::lock_guard lock(state_->mutex);
  Json &runtime = state_->runtime, &other = state_->other;
  runtime = runtime.is_null() ? pack.runtime : mixed_runtime(runtime, pack.runtime);
  other = other.is_null() ? pack.other : common(other, pack.other);
}

MergeResult Merger::finish() {
  MergeResult result;
  for (auto& [order, pin] : state_->pins) {
    state_->settle(pin, result);
    pin = {};
  }
  if (!state_->runtime.is_null()) result.pack.runtime = std::move(state_->runtime);
  if (!state_->other.is_null()) result.pack.other = std::move(state_->other);
  return result;
}

MergeResult merge(const std::vector<Origin>& origins, const MergeOptions& options) {
  Merger merger(options);
  for (const Origin& origin : origins) merger.add(origin.name, origin.pack);
  return merger.finish();
}

Json mixed_runtime(const Json& a, const Json& b) {
  Json result = common(a, b);
  for (const char* name : {"mlx_version", "device_name", "device_arch"})
    if (!result.contains(name)) result[name] = "mixed";
  return result;
}

}  // namespace mlx_kd::packs
