// Of many records those that the rest of a run can still ask for.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "mlx_kd/archive/run/brief.h"

namespace mlx_kd::discover {

// The first that was benchmarked, what was last timed against, the best, and `count` of each size
// that choose_finalists() may choose; all others are shed from time to time. Fewer than twice
// `at_most` are kept.
class Contenders {
 public:
  Contenders(size_t sizes, size_t count, size_t at_most)
      : sizes_(sizes), count_(count), at_most_(at_most) {}

  // Whether the record is worth reading.
  bool wants(const archive::Brief& brief) const;
  void add(archive::Record record);
  const std::vector<archive::Record>& records() const { return records_; }
  // The one with the least objective, the first of equals; nullptr where nothing was benchmarked.
  const archive::Record* best() const { return best_ ? &records_[*best_] : nullptr; }

 private:
  void shed();

  size_t sizes_, count_, at_most_;
  std::vector<archive::Record> records_;  // in the order in which they came
  std::optional<size_t> best_;
  std::vector<double>
      last_chosen_;  // log ratio of the last finalist of each size; empty: any may be
};

}  // namespace mlx_kd::discover
