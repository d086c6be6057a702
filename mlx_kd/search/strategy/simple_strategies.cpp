#include "mlx_kd/search/strategy/simple_strategies.h"

#include <algorithm>
#include <cmath>

#include "mlx_kd/search/space/fixed_math.h"

namespace mlx_kd::search {
namespace {

constexpr double kHot = 0.5, kCold = 0.001;
constexpr size_t kPopulation = 20, kChildren = 32;

// What random numbers are drawn for.
enum WalkPurpose : uint64_t { kNext, kAccept, kDeal };

}  // namespace

std::vector<size_t> SimpleStrategy::propose(size_t count) {
  std::vector<size_t> proposed;
  while (proposed.size() < count && history_.left() > 0) {
    base::Random random = random_at(seed_, history_.step(), kNext);
    proposed.push_back(next(random));
    history_.propose(proposed.back());
  }
  return proposed;
}

void SimpleStrategy::take_share(size_t rank, size_t ranks) {
  const Features features(history_.points());
  Tours tours(features, 1, random_at(seed_, 0, kDeal).next());
  history_.keep_share(tours, 0, rank, ranks);
}

size_t ExhaustiveSearch::next(base::Random&) {
  while (history_.taken(first_left_)) ++first_left_;
  return first_left_;
}

Annealing::Annealing(const Points& points, uint64_t seed, uint64_t budget)
    : SimpleStrategy(points, seed), features_(points), budget_(budget == 0 ? 200 : budget) {}

double Annealing::temperature() const {
  const double share =
      std::min(1.0, static_cast<double>(history_.size()) / static_cast<double>(budget_));
  return kHot * fixed_exp(share * fixed_log(kCold / kHot));
}

void Annealing::observe(const Observation& observation) {
  history_.observe(observation);
  const size_t last = history_.size() - 1;
  const double value = history_.value(last);
  const double chance = random_at(seed_, last, kAccept).uniform();
  const bool accept = value == kFailed  ? value_ == kFailed
                      : value <= value_ ? true
                                        : chance < fixed_exp((value_ - value) / temperature());
  if (!accept) return;
  at_ = observation.point;
  value_ = value;
}

size_t Annealing::next(base::Random& random) {
  std::vector<uint32_t> moves;
  if (history_.size() > 0) moves = hamming_neighbors(features_, at_);
  std::erase_if(moves, [&](uint32_t point) { return history_.taken(point); });
  return moves.empty() ? history_.random_left(random) : moves[random.below(moves.size())];
}

size_t Genetic::parent(base::Random& random) const {
  const size_t among = std::min(kPopulation, history_.valid());
  const uint64_t a = random.below(among), b = random.below(among);
  return history_.point(history_.ranking()[std::min(a, b)]);
}

size_t Genetic::child(base::Random& random) const {
  const Points& points = history_.points();
  const size_t mother = parent(random), father = parent(random);
  Points::Indices row(points.row(mother), points.row(mother) + points.knobs());
  for (size_t dim = 0; dim < features_.dims(); ++dim) {
    const size_t knob = features_.knob(dim);
    if (random.below(2) == 0) row[knob] = points.value_index(father, knob);
    const std::vector<uint8_t>& levels = features_.levels(dim);
    if (random.below(features_.dims()) == 0) row[knob] = levels[random.below(levels.size())];
  }
  return points.find(row);
}

size_t Genetic::next(base::Random& random) {
  if (history_.step() < kPopulation || history_.valid() == 0) return history_.random_left(random);
  for (size_t i = 0; i < kChildren; ++i) {
    const size_t point = child(random);
    if (point < history_.points().size() && !history_.taken(point)) return point;
  }
  return history_.random_left(random);
}

}  // namespace mlx_kd::search
