// What one thread called, how often, and the pin it got: memory of lookups and counts in one.
//
// A ledger belongs to a thread, which looks up and counts without a lock. Its mutex is held where
// lines are added or change their pin, and by other threads that read.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "mlx_kd/runtime/pins/call_key.h"
#include "mlx_kd/runtime/pins/table.h"

namespace mlx_kd::runtime {

struct Counts {
  uint64_t calls = 0, hits = 0, fallbacks = 0, defaults = 0;
  uint64_t misses() const { return calls - hits - fallbacks - defaults; }
};

// Written by the ledger's thread alone, read by any.
class Counter {
 public:
  void add(uint64_t count = 1) {
    value_.store(value_.load(std::memory_order_relaxed) + count, std::memory_order_relaxed);
  }
  uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

struct Line {
  Query query;
  uint64_t hash = 0;
  Counter calls, hits, fallbacks;
  Counter defaults;         // ran the op's default kernel because the setting names the op
  uint64_t generation = 0;  // of the table that `served` comes from
  std::shared_ptr<const Served> served;  // nullptr: no pin
  uint64_t hits_before = 0;              // hits of pins of older tables
  Counts at_reset;
  // Whether its numbers decide which pin serves it; else it represents calls with any numbers.
  bool fixed_params = false;
  // Where no pin serves it, the op's default kernel is asked for; false once it could not run.
  bool wants_default = false;
  uint64_t logged = 0;   // calls that the shape log has, with the mutex held
  std::string log_body;  // what the shape log says of it in addition to count and time, likewise
  // By the owner alone: the op's default setting at this size, once it was asked for; and the call
  // of what ran last with other numbers than its own.
  std::shared_ptr<const Served> standby;
  std::shared_ptr<const Served> own_call_of;
  devices::Call own_call;
};

class Ledger {
 public:
  static constexpr size_t kMostLines = 16384;
  static constexpr uint16_t kNoOp = 0xffff;  // Query::op of lines that represent many sizes

  // The calling thread's.
  static Ledger& mine();

  struct Found {
    Line& line;
    const std::shared_ptr<const Served>& served;  // good until the thread's next call
  };
  // The line of a call, with its pin by the process's present table. Beyond kMostLines sizes one
  // line represents all others.
  Found find(const Query& query);
  // The op's default setting at the size of a line that find() gave. Throws what serve_default()
  // throws.
  const Served& standby(Line& line, const Query& query);
  // The same for a line that wants it: nullptr where it cannot run, then the line no longer wants
  // it, or while another thread compiles it and `wait` is false.
  std::shared_ptr<const Served> wanted_default(Line& line, const Query& query, bool wait);
  // How the kernel is called with the call's numbers; good until the thread's next call.
  static const devices::Call& call_of(Line& line, const std::shared_ptr<const Served>& served,
                                      const Query& query);
  // The line of calls that no query describes: mixed types, empty arrays.
  Line& other() { return other_; }
  // The table of the process, kept until it changes.
  const Table& table();

  // Calls `visit` for every line with the mutex held; any thread.
  void visit(const std::function<void(Line&)>& visit);
  void absorb(Ledger& ended);  // adds the counts of a thread that ended

  // A call for the shape log's event mode.
  void remember(Line& line, const std::string& time);
  // Gives what the shape log does not have yet: calls by line, or, as events, one by one.
  void take_unlogged(
      bool events,
      const std::function<void(Line& line, uint64_t calls, const std::string& time)>& take);

  uint64_t unlogged = 0;  // calls since the shape log was flushed, by the owner
  uint64_t misses = 0;    // in all, by the owner

 private:
  Line* seek(const Query& query, uint64_t hash);
  Line& add(const Query& query, uint64_t hash);
  void refresh(Line& line, const Query& query);
  std::shared_ptr<const Served> look_up(const Query& query, uint64_t hash);
  void take_events(const std::function<void(Line&, uint64_t, const std::string&)>& take);

  struct Event {
    Line* line;
    std::string time;
  };

  std::mutex mutex_;
  std::vector<Event> events_;
  std::vector<Line*> slots_ = std::vector<Line*>(64);  // a power of two
  std::deque<Line> lines_;                             // addresses stay
  Line spilled_, other_;
  std::shared_ptr<const Served> spilled_served_;
  std::shared_ptr<const Table> table_ = std::make_shared<Table>();
  uint64_t generation_ = 0;
};

// Every line of every thread, and of those that ended. Any thread.
void visit_all_lines(const std::function<void(Line&)>& visit);

// Every ledger: of threads, then the one of those that ended.
void visit_all_ledgers(const std::function<void(Ledger&)>& visit);

// The pin that serves a call: of its size, or with a range that holds it and a kernel that can be
// launched there; nullptr if there is none.
const Pin* find_servable(const Table& table, const Query& query);

// Of a line since the last reset_stats().
Counts counts_of(const Line& line);

}  // namespace mlx_kd::runtime
