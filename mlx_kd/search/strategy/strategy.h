// A strategy decides what to evaluate next. Pure: no clock, no I/O, no MLX; the same seed and the
// same observations give the same walk, to the byte, on every machine.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mlx_kd/search/space/points.h"

namespace mlx_kd::search {

// What one evaluation said.
struct Observation {
  size_t point = 0;
  bool failed = false;  // did not compile, wrong, timed out, ...
  double value = 0;  // objective to minimise, a natural logarithm of time (any offset); unused if
                     // failed, and one that is not finite counts as failed
  double cost = 1;   // what evaluating it took, in any fixed unit; 1 where it is not known
};

// An option left out means the strategy's own setting; one that is given overrides its counterpart,
// named here. Strategies that have no such part refuse it.
struct StrategyOptions {
  std::optional<int> neighbors;  // tours: the nearest graph moves taken of each of the
                                 // best points, instead of all; >= 0 (0: no moves)
  std::optional<int> knn;        // tours: edges a point has in the kNN graph in addition to its
                                 // Hamming-1 neighbours, instead of 12; >= 0
  std::optional<int> tours;      // tours: Hamiltonian tours in the union, instead of 4;
                                 // >= 1
  std::optional<double> exploit_fraction;  // tours: share of steps that choose among the neighbours
                                           // of the best alone, instead of 0; in [0, 1]
  std::optional<double> novelty_fraction;  // tours: share of steps that take the next unseen stop
                                           // of a long tour unasked, instead of 0.02; in [0, 1];
                                           // the two shares sum to at most 1
  std::optional<int> min_tour_gap;         // tours: stops of a short tour between a tour candidate
                                           // and any point taken, instead of 0; >= 0
  uint64_t budget = 0;                     // evaluations planned in all, 0 if unknown: annealing
                                           // cools over it, the others do not need it
};

class Tours;

class Strategy {
 public:
  virtual ~Strategy() = default;
  // Up to `count` points not taken before (proposed or observed), best first; fewer (or none) only
  // when the space runs out.
  virtual std::vector<size_t> propose(size_t count) = 0;
  // What came of a proposed point; also called for points that were never proposed (a resumed run's
  // records, a warm start). Order matters. The walk is a function of the seed, the observations and
  // the points still pending alone: observing the records of a broken run, in order, continues it
  // as if it had not been broken.
  virtual void observe(const Observation& observation) = 0;
  // Several at once, in their order: a strategy with a model fits it once, after the last. What it
  // proposes then may differ from what it would after the same ones one by one.
  virtual void observe_all(const std::vector<Observation>& observations);
  // From now on only the points of share `rank` of `ranks` are proposed; who has another share
  // proposes the rest, and what came of them is observed here too. The points are dealt by a long
  // tour, a stretch each, so that every share is spread over the space; strategies of one seed deal
  // alike. At most once, and ranks >= 1.
  virtual void take_share(size_t rank, size_t ranks) = 0;
  // What an earlier run on a neighbouring size, type or device observed, as points of this space;
  // before the first propose() and observe(), once per run. It guides the first evaluations and is
  // doubted as evidence comes in. Misuse (room search) unless the strategy is "tours".
  virtual void add_prior(const std::vector<Observation>& run);
  // What going on may still improve on the best value, in the unit of values (0.01: about 1 %), as
  // it looked when the last point was proposed (gain_outlook.h says what it is); nothing where the
  // strategy has no model, or too little evidence for one.
  virtual std::optional<double> expected_gain() const { return std::nullopt; }
  // The tours that it walks, for pictures; nullptr where it has none.
  virtual Tours* tours() { return nullptr; }
};

const std::vector<std::string>& strategy_names();  // "tours" first: the default

// `points` must outlive the strategy. Misuse (room search), naming the known ones and the bad
// option.
std::unique_ptr<Strategy> make_strategy(const std::string& name, const Points& points,
                                        const StrategyOptions& options, uint64_t seed);

}  // namespace mlx_kd::search
