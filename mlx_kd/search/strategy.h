// A strategy decides what to evaluate next. Pure: no clock, no I/O, no MLX; the same seed and the
// same observations give the same walk, to the byte.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mlx_kd/search/points.h"

namespace mlx_kd::search {

// What one evaluation said.
struct Observation {
  size_t point = 0;
  bool failed = false;  // did not compile, wrong, timed out, ...
  double value =
      0;  // objective to minimise, a logarithm of time (any base, any offset); unused if failed
  double cost = 1;  // what evaluating it took, in any fixed unit; 1 where it is not known
};

// An option left out means the strategy's own setting; one that is given overrides its counterpart.
struct StrategyOptions {
  std::optional<int> neighbors;            // graph moves considered round each of the best
  std::optional<int> knn;                  // edges a point has in the kNN graph
  std::optional<int> tours;                // Hamiltonian tours in the union
  std::optional<double> exploit_fraction;  // share of a batch for neighbours of the best, in [0, 1]
  std::optional<double>
      novelty_fraction;  // share of a batch for far points, in [0, 1]; the sum is at most 1
  std::optional<int> min_tour_gap;  // least distance along a tour between two stops of one walk
  uint64_t budget = 0;              // evaluations planned in all, 0 if unknown
};

class Strategy {
 public:
  virtual ~Strategy() = default;
  // Up to `count` points not proposed before, best first; fewer (or none) only when the space runs
  // out.
  virtual std::vector<size_t> propose(size_t count) = 0;
  // What came of a proposed point; also called for points that were never proposed (a resumed run's
  // records, a warm start). Order matters.
  virtual void observe(const Observation& observation) = 0;
};

const std::vector<std::string>& strategy_names();  // "tours" first: the default

// `points` must outlive the strategy. Misuse (room search), naming the known ones and the bad
// option.
std::unique_ptr<Strategy> make_strategy(const std::string& name, const Points& points,
                                        const StrategyOptions& options, uint64_t seed);

}  // namespace mlx_kd::search
