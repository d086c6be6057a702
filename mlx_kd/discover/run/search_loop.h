// The loop of a search: propose, evaluate, record, observe.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "mlx_kd/archive/run/run_writer.h"
#include "mlx_kd/discover/interrupt.h"
#include "mlx_kd/discover/listener.h"
#include "mlx_kd/discover/run/candidate_space.h"
#include "mlx_kd/discover/run/contenders.h"
#include "mlx_kd/search/space/features.h"
#include "mlx_kd/search/strategy/strategy.h"

namespace mlx_kd::discover {

// A point that was evaluated.
struct Visit {
  size_t point;  // the number of points if the space no longer has it
  uint64_t step;
};

// A run that was broken off is walked again from its start: the strategy proposes as it did, and
// what is on record is looked up instead of evaluated. So an unbroken run and a resumed one take
// the same steps. In a long run the strategy observes the old records directly, and only the last
// ones are walked again.
class Walk {
 public:
  struct Parts {
    const CandidateSpace* space;
    const search::Points* points;
    const search::Features* features;
    search::Strategy* strategy;
    evaluate::Evaluator* evaluator;
    Listener* listener;
    const Interrupt* interrupt;
  };
  // When to stop, in addition to the budget. `go_on` is asked before each batch with the number of
  // evaluations done.
  struct Limits {
    uint64_t budget;
    uint64_t batch;
    std::function<bool(uint64_t done)> go_on;
    // Of a run without ranges of sizes: how many finalists it chooses for each of its sizes. Then
    // the records of a long run that no choice depends on are not kept.
    size_t sizes = 0, finalists = 0;
    std::optional<size_t> first;  // a point that is evaluated before the strategy is asked
  };

  Walk(const Parts& parts, const Limits& limits);

  // What the log is opened with, so that it hands its old records over to this walk.
  archive::OldRecords old_records();

  // Until the budget is spent, the space runs out, go_on says no or the interrupt is raised.
  void run(archive::RunWriter& writer);

  // Those found and those added, in the order of their steps; of many, those that matter.
  const std::vector<archive::Record>& records() const { return contenders_.records(); }
  // Of all, in that order.
  const std::vector<Visit>& visits() const { return visits_; }
  uint64_t benchmarked() const { return benchmarked_; }

 private:
  void recall(const archive::Brief& brief, const std::function<archive::Record()>& whole);
  void replay(const std::vector<size_t>& proposed, std::vector<size_t>& fresh);
  void replay_strays();
  void evaluate(const std::vector<size_t>& fresh);
  void take(size_t point, archive::Record record);
  const archive::Record& anchor() const;
  const archive::Record& partner() const;
  void adopt_incumbent();

  Parts parts_;
  Limits limits_;
  archive::RunWriter* writer_ = nullptr;
  std::map<std::string, archive::Record> on_record_;  // by candidate id, not yet walked
  Contenders contenders_;
  std::vector<Visit> visits_;
  uint64_t benchmarked_ = 0;
  std::optional<double> expected_gain_;  // of the batch under way
  uint64_t next_step_ = 0;
  bool adopted_ = false;
};

}  // namespace mlx_kd::discover
