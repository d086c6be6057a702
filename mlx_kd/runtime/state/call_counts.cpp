#include "mlx_kd/runtime/state/call_counts.h"

#include <algorithm>

#include "mlx_kd/base/error.h"
#include "mlx_kd/runtime/pins/default_kernel.h"
#include "mlx_kd/runtime/state/process.h"
#include "mlx_kd/runtime/state/shape_log.h"

namespace mlx_kd::runtime {
namespace {

struct Registry {
  std::mutex mutex;
  std::vector<std::shared_ptr<Ledger>> ledgers;
  Ledger ended;  // the counts of threads that are gone
};

Registry& registry() {
  static Registry& all = *new Registry;
  return all;
}

std::shared_ptr<const Served> serve_if_launchable(const Pin& pin, size_t index,
                                                  const Query& query) {
  try {
    return serve(pin, index, query);
  } catch (const base::Error&) {
    return nullptr;
  }
}

// Enters a ledger for as long as its thread lives.
struct Membership {
  Membership() {
    std::lock_guard lock(registry().mutex);
    registry().ledgers.push_back(ledger);
  }
  ~Membership() {
    ShapeLog::shared().write_quietly(*ledger);
    std::lock_guard lock(registry().mutex);
    registry().ended.absorb(*ledger);
    std::erase(registry().ledgers, ledger);
  }
  std::shared_ptr<Ledger> ledger = std::make_shared<Ledger>();
};

}  // namespace

Ledger& Ledger::mine() {
  thread_local Membership membership;
  return *membership.ledger;
}

const Table& Ledger::table() {
  if (generation_ != Process::shared().generation()) table_ = Process::shared().table(generation_);
  return *table_;
}

Line* Ledger::seek(const Query& query, uint64_t hash) {
  const size_t mask = slots_.size() - 1;
  for (size_t at = hash & mask; slots_[at]; at = (at + 1) & mask)
    if (slots_[at]->hash == hash && slots_[at]->query.same_size(query) &&
        (!slots_[at]->fixed_params || slots_[at]->query.params == query.params))
      return slots_[at];
  return nullptr;
}

Line& Ledger::add(const Query& query, uint64_t hash) {
  std::lock_guard lock(mutex_);
  if (2 * (lines_.size() + 1) > slots_.size()) {
    std::vector<Line*> wider(2 * slots_.size());
    for (Line& line : lines_) {
      size_t at = line.hash & (wider.size() - 1);
      while (wider[at]) at = (at + 1) & (wider.size() - 1);
      wider[at] = &line;
    }
    slots_.swap(wider);
  }
  Line& line = lines_.emplace_back();
  line.query = query;
  line.hash = hash;
  size_t at = hash & (slots_.size() - 1);
  while (slots_[at]) at = (at + 1) & (slots_.size() - 1);
  slots_[at] = &line;
  return line;
}

// nullptr where no pin serves it.
std::shared_ptr<const Served> Ledger::look_up(const Query& query, uint64_t hash) {
  const Table& pins = table();
  const Pin* pin = pins.find(query, hash);
  if (pin) return pin->served;
  pin = pins.find_ranged(query);
  return pin ? serve_if_launchable(*pin, pins.index_of(*pin), query) : nullptr;
}

void Ledger::refresh(Line& line, const Query& query) {
  auto served = look_up(query, line.hash);
  line.wants_default = Process::shared().runs_default(query.op);
  std::lock_guard lock(mutex_);
  line.fixed_params = table_->fixes_params(query.op);
  line.query.params = query.params;
  line.served = std::move(served);
  line.generation = generation_;
  line.hits_before = line.hits.get();
}

Ledger::Found Ledger::find(const Query& query) {
  const uint64_t hash = hash_of(query);
  Line* line = seek(query, hash);
  if (!line) {
    if (lines_.size() >= kMostLines) {
      spilled_served_ = look_up(query, hash);
      spilled_.wants_default = Process::shared().runs_default(query.op);
      return {spilled_, spilled_served_};
    }
    line = &add(query, hash);
  }
  if (line->generation != Process::shared().generation()) refresh(*line, query);
  return {*line, line->served};
}

const Served& Ledger::standby(Line& line, const Query& query) {
  if (!line.standby || &line == &spilled_) line.standby = serve_default(query);
  return *line.standby;
}

std::shared_ptr<const Served> Ledger::wanted_default(Line& line, const Query& query, bool wait) {
  if (line.standby && &line != &spilled_) return line.standby;
  try {
    line.standby = wait ? serve_default(query) : serve_default_if_ready(query);
  } catch (const std::exception&) {  // explain() says why
    line.wants_default = false;
    return nullptr;
  }
  return line.standby;
}

const devices::Call& Ledger::call_of(Line& line, const std::shared_ptr<const Served>& served,
                                     const Query& query) {
  const std::vector<double>& usual = served->call.scalars;
  if (std::equal(usual.begin(), usual.end(), query.params.begin())) return served->call;
  if (line.own_call_of != served) {
    line.own_call = served->call;
    line.own_call_of = served;
  }
  std::copy_n(query.params.begin(), usual.size(), line.own_call.scalars.begin());
  return line.own_call;
}

void Ledger::visit(const std::function<void(Line&)>& visit) {
  std::lock_guard lock(mutex_);
  for (Line& line : lines_) visit(line);
  for (Line* line : {&spilled_, &other_}) {
    line->query.op = Ledger::kNoOp;
    visit(*line);
  }
}

void Ledger::remember(Line& line, const std::string& time) {
  std::lock_guard lock(mutex_);
  events_.push_back({&line, time});
}

void Ledger::take_unlogged(bool events,
                           const std::function<void(Line&, uint64_t, const std::string&)>& take) {
  if (events) return take_events(take);
  visit([&](Line& line) {
    const uint64_t calls = line.calls.get();
    if (line.query.op != kNoOp && calls > line.logged) take(line, calls - line.logged, "");
    line.logged = calls;
  });
}

void Ledger::take_events(const std::function<void(Line&, uint64_t, const std::string&)>& take) {
  std::lock_guard lock(mutex_);
  for (const Event& event : events_)
    if (event.line->query.op != kNoOp) take(*event.line, 1, event.time);
  events_.clear();
}

void Ledger::absorb(Ledger& ended) {
  ended.visit([&](Line& from) {
    Line* to = from.query.op == Ledger::kNoOp ? &other_ : seek(from.query, from.hash);
    if (!to) to = lines_.size() < kMostLines ? &add(from.query, from.hash) : &spilled_;
    std::lock_guard lock(mutex_);
    to->calls.add(from.calls.get());
    to->hits.add(from.hits.get());
    to->fallbacks.add(from.fallbacks.get());
    to->defaults.add(from.defaults.get());
    to->logged += from.logged;
    to->at_reset.calls += from.at_reset.calls;
    to->at_reset.hits += from.at_reset.hits;
    to->at_reset.fallbacks += from.at_reset.fallbacks;
    to->at_reset.defaults += from.at_reset.defaults;
    // Hits of the pins in use stay theirs where the line's pins are the same.
    if (to->generation < from.generation) {
      to->served = from.served;
      to->generation = from.generation;
      to->hits_before = to->hits.get() - (from.hits.get() - from.hits_before);
    } else if (to->generation > from.generation) {
      to->hits_before += from.hits.get();
    } else {
      to->hits_before += from.hits_before;
    }
  });
}

void visit_all_ledgers(const std::function<void(Ledger&)>& visit) {
  Registry& all = registry();
  std::lock_guard lock(all.mutex);
  for (const auto& ledger : all.ledgers) visit(*ledger);
  visit(all.ended);
}

void visit_all_lines(const std::function<void(Line&)>& visit) {
  visit_all_ledgers([&](Ledger& ledger) { ledger.visit(visit); });
}

const Pin* find_servable(const Table& table, const Query& query) {
  if (const Pin* pin = table.find(query)) return pin;
  const Pin* pin = table.find_ranged(query);
  return pin && serve_if_launchable(*pin, table.index_of(*pin), query) ? pin : nullptr;
}

Counts counts_of(const Line& line) {
  // Hits first: a call that is under way counts as a miss, never as less than nothing.
  const uint64_t hits = line.hits.get() - line.at_reset.hits;
  const uint64_t fallbacks = line.fallbacks.get() - line.at_reset.fallbacks;
  const uint64_t defaults = line.defaults.get() - line.at_reset.defaults;
  const uint64_t calls = line.calls.get() - line.at_reset.calls;
  return {std::max(calls, hits + fallbacks + defaults), hits, fallbacks, defaults};
}

}  // namespace mlx_kd::runtime
