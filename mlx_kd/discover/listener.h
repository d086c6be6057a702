// What a discovery run reports to its caller. Called from the run's thread.
#pragma once

#include <string>

#include "mlx_kd/spec/op/candidate.h"
#include "mlx_kd/spec/verdict.h"

namespace mlx_kd::discover {

struct Step {
  uint64_t number;  // of this evaluation, from 1
  uint64_t budget;
  const spec::Candidate* candidate;
  const spec::Verdict* verdict;
  bool best;  // it is the new best
  double
      best_vs_first;  // how many times faster the best so far is than the first candidate; 1 before
  std::string best_knobs;  // of the best so far, "VEC=64,UNROLL=4"; empty before
};

class Listener {
 public:
  virtual ~Listener() = default;
  virtual void stage(const std::string& what) = 0;  // "enumerating", "re-measuring 9 finalists"
  virtual void trying(const spec::Candidate& candidate,
                      uint64_t number) = 0;  // first of the batch under way
  virtual void evaluated(const Step& step) = 0;
  virtual void note(const std::string& message) = 0;  // worth a line of its own
};

}  // namespace mlx_kd::discover
