#include "mlx_kd/runtime/state/stats.h"

#include <algorithm>

#include "mlx_kd/runtime/pins/describe.h"
#include "mlx_kd/runtime/state/call_counts.h"
#include "mlx_kd/runtime/state/process.h"
#include "mlx_kd/runtime/state/shape_log.h"

namespace mlx_kd::runtime {
namespace {

struct QueryLess {
  bool operator()(const Query& a, const Query& b) const {
    return std::memcmp(&a, &b, sizeof a) < 0;
  }
};

using CallsBySize = std::map<Query, uint64_t, QueryLess>;

void count(const Line& line, uint64_t generation, Stats& stats, CallsBySize& missed,
           CallsBySize& by_default) {
  const Counts counts = counts_of(line);
  stats.calls += counts.calls;
  stats.hits += counts.hits;
  stats.fallbacks += counts.fallbacks;
  stats.misses += counts.misses();
  stats.defaults += counts.defaults;
  if (line.query.op == Ledger::kNoOp) return;
  if (counts.defaults > 0) by_default[line.query] += counts.defaults;
  // Hits of the pin that the line has now, since it has it and since the reset.
  if (line.generation == generation && line.served)
    stats.pins[line.served->pin].hits +=
        line.hits.get() - std::max(line.hits_before, line.at_reset.hits);
  else if (counts.misses() > 0)
    missed[line.query] += counts.misses();
}

PinStats stats_of(const Pin& pin) {
  return {pin.op->op->name,
          dtype_of(pin.key),
          shape_of(pin),
          pin.entry.candidate_id,
          name_of(pin.kernel->state()),
          pin.kernel->reason(),
          0,
          pin.kernel->compile_ms(),
          pin.kernel->cached()};
}

MissStats stats_of(const Table& table, const Query& query, uint64_t calls) {
  MissStats miss{
      all_operators()[query.op].op->name, dtype_of(query), shape_of(query), calls, "", ""};
  if (const Pin* nearest = table.nearest(query)) {
    miss.nearest = title_of(*nearest);
    miss.differs = differences_text(*nearest, query);
  }
  return miss;
}

void list_missed(const Table& table, const CallsBySize& missed, Stats& stats) {
  for (const auto& [query, calls] : missed)
    if (!find_servable(table, query)) stats.missed.push_back(stats_of(table, query, calls));
  std::stable_sort(stats.missed.begin(), stats.missed.end(),
                   [](const MissStats& a, const MissStats& b) { return a.calls > b.calls; });
}

}  // namespace

Stats stats() {
  Process& process = Process::shared();
  Stats stats;
  stats.enabled = process.modes() & kPins;
  uint64_t generation = 0;
  const auto table = process.table(generation);
  stats.files = process.files();
  stats.error = process.error();
  for (const Pin& pin : table->pins()) stats.pins.push_back(stats_of(pin));
  for (const Skipped& skipped : table->skipped())
    stats.skipped.push_back({skipped.title, skipped.reason});
  CallsBySize missed, by_default;
  visit_all_lines([&](Line& line) { count(line, generation, stats, missed, by_default); });
  for (const auto& [query, calls] : by_default)
    stats.by_default.push_back(
        {all_operators()[query.op].op->name, dtype_of(query), shape_of(query), calls});
  std::stable_sort(stats.by_default.begin(), stats.by_default.end(),
                   [](const DefaultStats& a, const DefaultStats& b) { return a.calls > b.calls; });
  if (stats.enabled) list_missed(*table, missed, stats);
  for (const auto& kernel : all_kernels()) {
    stats.compile_ms += kernel->compile_ms();
    if (kernel->state() == KernelState::dropped) ++stats.dropped;
    if (kernel->state() == KernelState::ready) ++(kernel->cached() ? stats.loaded : stats.compiled);
  }
  return stats;
}

void reset_stats() {
  visit_all_lines([](Line& line) {
    line.at_reset = {line.calls.get(), line.hits.get(), line.fallbacks.get(), line.defaults.get()};
  });
}

void flush_shape_log() {
  Process::shared().modes();
  ShapeLog::shared().write_all();
}

}  // namespace mlx_kd::runtime
