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
#include "mlx_kd/search/space/features.h"
#include "mlx_kd/search/strategy/strategy.h"

namespace mlx_kd::discover {

// A run that was broken off is walked again from its start: the strategy proposes as it did, and
// what is on record is looked up instead of evaluated. So an unbroken run and a resumed one take
// the same steps.
class Walk {
 public:
  struct Parts {
    const CandidateSpace* space;
    const search::Points* points;
    const search::Features* features;
    search::Strategy* strategy;
    evaluate::Evaluator* evaluator;
    archive::RunWriter* writer;
    Listener* listener;
    const Interrupt* interrupt;
  };
  // When to stop, in addition to the budget. `go_on` is asked before each batch with the number of
  // evaluations done.
  struct Limits {
    uint64_t budget;
    uint64_t batch;
    std::function<bool(uint64_t done)> go_on;
  };

  Walk(const Parts& parts, const Limits& limits);

  // Until the budget is spent, the space runs out, go_on says no or the interrupt is raised.
  void run();

  // All records, those found and those added, in the order of their steps.
  const std::vector<archive::Record>& records() const { return records_; }

 private:
  void replay(const std::vector<size_t>& proposed, std::vector<size_t>& fresh);
  void replay_strays();
  void evaluate(const std::vector<size_t>& fresh);
  void take(size_t point, archive::Record record);
  const archive::Record& anchor() const;
  const archive::Record& partner() const;
  void adopt_incumbent();

  Parts parts_;
  Limits limits_;
  std::map<std::string, archive::Record> on_record_;  // by candidate id, not yet walked
  std::vector<archive::Record> records_;
  std::optional<double> expected_gain_;  // of the batch under way
  std::optional<size_t> incumbent_;      // index into records_ of the best so far
  uint64_t next_step_ = 0;
  bool adopted_ = false;
};

}  // namespace mlx_kd::discover
