// All pins of a process: exact lookup by a call's op, type, place and size. Immutable.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "mlx_kd/packs/pack.h"
#include "mlx_kd/runtime/pins/pin.h"

namespace mlx_kd::runtime {

class Table {
 public:
  Table() = default;
  // Pins that this process can use, and why it cannot use the others. Where several pins serve a
  // call, the one that ranks first does (spec::rank); an exact size comes before a range, the
  // narrower range before the wider, any range before an entry of schema 1 for any size.
  explicit Table(const std::vector<packs::Pack>& packs, bool allow_approximate = false);
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

  // The pin of the call's exact size, or nullptr. Any thread, no lock, no allocation.
  const Pin* find(const Query& query) const { return find(query, hash_of(query)); }
  const Pin* find(const Query& query, uint64_t hash) const;

  // A pin whose range, or any size, holds the call; nullptr if none. Takes time in proportion to
  // their number.
  const Pin* find_ranged(const Query& query) const;

  // The pin of the op that differs from the call in the fewest fields; nullptr if the op has none.
  const Pin* nearest(const Query& query) const;

  // Whether a pin of the op has numbers in its source: then a call's numbers decide which serves
  // it.
  bool fixes_params(uint16_t op) const { return op < fixes_params_.size() && fixes_params_[op]; }

  size_t index_of(const Pin& pin) const { return static_cast<size_t>(&pin - pins_.data()); }
  const std::vector<Pin>& pins() const { return pins_; }
  const std::vector<Skipped>& skipped() const { return skipped_; }

 private:
  struct Slot {
    uint32_t tag = 0;  // upper half of the hash
    uint32_t pin = 0;  // index + 1 of the first pin of that size; 0: empty
  };
  void add(const packs::Entry& entry, bool allow_approximate);
  void order();
  void fill_slots();

  std::vector<Pin> pins_;  // those of one size lie side by side, best first
  std::vector<Slot> slots_ = std::vector<Slot>(2);  // a power of two, at most half full
  std::vector<uint32_t> ranged_;                    // narrowest first
  std::vector<bool> fixes_params_;                  // by op; those after the last: no
  std::vector<Skipped> skipped_;
};

}  // namespace mlx_kd::runtime
