// The strategies that the default is compared with.
#pragma once

#include "mlx_kd/search/space/neighbors.h"
#include "mlx_kd/search/strategy/history.h"

namespace mlx_kd::search {

// What they share: propose() asks next() as often as wanted, observe() records.
class SimpleStrategy : public Strategy {
 public:
  SimpleStrategy(const Points& points, uint64_t seed) : seed_(seed), history_(points) {}
  std::vector<size_t> propose(size_t count) override;
  void observe(const Observation& observation) override { history_.observe(observation); }
  void take_share(size_t rank, size_t ranks) override;

 protected:
  // A point not taken; history_.left() > 0.
  virtual size_t next(base::Random& random) = 0;

  uint64_t seed_;
  History history_;
};

// Without replacement.
class RandomSearch : public SimpleStrategy {
 public:
  using SimpleStrategy::SimpleStrategy;

 private:
  size_t next(base::Random& random) override { return history_.random_left(random); }
};

// In the order of the points.
class ExhaustiveSearch : public SimpleStrategy {
 public:
  using SimpleStrategy::SimpleStrategy;

 private:
  size_t next(base::Random& random) override;
  size_t first_left_ = 0;
};

// Simulated annealing over Hamming-1 neighbours not taken before (Kirkpatrick, Gelatt, Vecchi 1983,
// Science 220): a worse point is moved to with probability exp(-(difference of values) / T), T
// falling from 0.5 to 0.001 by a constant factor over the budget (200 if it is not known).
class Annealing : public SimpleStrategy {
 public:
  Annealing(const Points& points, uint64_t seed, uint64_t budget);
  void observe(const Observation& observation) override;

 private:
  size_t next(base::Random& random) override;
  double temperature() const;

  Features features_;
  uint64_t budget_;
  size_t at_ = 0;
  double value_ = kFailed;  // of at_
};

// A steady-state genetic algorithm: two tournaments among the 20 best, uniform crossover, each knob
// mutated with probability 1 / knobs; the first 20 are random.
class Genetic : public SimpleStrategy {
 public:
  Genetic(const Points& points, uint64_t seed) : SimpleStrategy(points, seed), features_(points) {}

 private:
  size_t next(base::Random& random) override;
  size_t parent(base::Random& random) const;
  size_t child(base::Random& random) const;

  Features features_;
};

}  // namespace mlx_kd::search
