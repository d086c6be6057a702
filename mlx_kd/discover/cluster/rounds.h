// How far the searches of all devices are: counted alike on every rank, from what they report.
//
// A search is a list of rounds. In a round each rank of a device evaluates its share of the points
// and reports at the meeting after it. The first rounds find the anchor, which every rank times on
// its own machine: one candidate, the same for all, until one is benchmarked on all ranks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mlx_kd/base/json.h"

namespace mlx_kd::discover {

// What a rank says of its round, in addition to the records.
struct RoundReport {
  uint64_t evaluated = 0;
  bool benchmarked = false;  // the candidate of a round that seeks the anchor
  bool enough = false;       // its limits of time or gain are reached
};

base::Json to_json(const RoundReport& report);
// Misuse (room discover) where it is not one.
RoundReport report_from_json(const base::Json& value);

class Rounds {
 public:
  Rounds(uint64_t budget, uint64_t batch, size_t ranks)
      : budget_(budget), batch_(batch), ranks_(ranks) {}
  // Of a run that continues: so many records, and whether an anchor is among them.
  void start(uint64_t records, bool anchored);

  bool anchored() const { return anchored_; }
  bool over() const { return over_; }
  // Candidates that the rank in this place evaluates in the next round.
  uint64_t share_of(size_t place) const;
  // Takes in the reports of the device's ranks, in order.
  void take(const std::vector<RoundReport>& reports);

 private:
  uint64_t budget_, batch_;
  size_t ranks_;
  uint64_t records_ = 0;
  bool anchored_ = false, over_ = false;
};

}  // namespace mlx_kd::discover
