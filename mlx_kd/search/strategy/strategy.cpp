#include "mlx_kd/search/strategy/strategy.h"

#include <algorithm>

#include "mlx_kd/base/error.h"
#include "mlx_kd/search/strategy/simple_strategies.h"
#include "mlx_kd/search/strategy/tour_search.h"

namespace mlx_kd::search {
namespace {

void check_at_least(const char* name, const std::optional<int>& value, int least) {
  if (value && *value < least)
    base::misuse("search", std::string(name) + " is " + std::to_string(*value) +
                               ": give at least " + std::to_string(least));
}

void check_share(const char* name, const std::optional<double>& value) {
  if (value && !(*value >= 0 && *value <= 1))
    base::misuse("search", std::string(name) + " is " + std::to_string(*value) +
                               ": give a share from 0 to 1");
}

// The name of an option that is given and that only `tours` has, or nothing.
std::string tours_only(const StrategyOptions& options) {
  if (options.neighbors) return "--neighbors";
  if (options.knn) return "--knn";
  if (options.tours) return "--tours";
  if (options.exploit_fraction) return "--exploit-fraction";
  if (options.novelty_fraction) return "--novelty-fraction";
  if (options.min_tour_gap) return "--min-tour-gap";
  return "";
}

TourSettings tour_settings(const StrategyOptions& options) {
  TourSettings settings;
  const auto size = [](int value) { return static_cast<size_t>(value); };
  if (options.neighbors) settings.moves = size(*options.neighbors);
  if (options.knn) settings.knn = size(*options.knn);
  if (options.tours) settings.tours = size(*options.tours);
  if (options.min_tour_gap) settings.gap = size(*options.min_tour_gap);
  settings.exploit = options.exploit_fraction.value_or(settings.exploit);
  settings.novelty =
      options.novelty_fraction.value_or(std::min(settings.novelty, 1 - settings.exploit));
  if (settings.exploit + settings.novelty > 1 + 1e-9)
    base::misuse("search", "--exploit-fraction and --novelty-fraction sum to " +
                               std::to_string(settings.exploit + settings.novelty) +
                               ": let them sum to at most 1");
  return settings;
}

}  // namespace

void Strategy::observe_all(const std::vector<Observation>& observations) {
  for (const Observation& observation : observations) observe(observation);
}

void Strategy::add_prior(const std::vector<Observation>&) {
  base::misuse("search", "this strategy takes no warm start: use strategy 'tours'");
}

const std::vector<std::string>& strategy_names() {
  static const std::vector<std::string> names = {"tours", "random", "exhaustive", "annealing",
                                                 "genetic"};
  return names;
}

std::unique_ptr<Strategy> make_strategy(const std::string& name, const Points& points,
                                        const StrategyOptions& options, uint64_t seed) {
  const auto& names = strategy_names();
  if (std::find(names.begin(), names.end(), name) == names.end())
    base::misuse("search", "strategy '" + name + "' is unknown: use " + base::list_of(names));
  check_at_least("--neighbors", options.neighbors, 0);
  check_at_least("--knn", options.knn, 0);
  check_at_least("--tours", options.tours, 1);
  check_at_least("--min-tour-gap", options.min_tour_gap, 0);
  check_share("--exploit-fraction", options.exploit_fraction);
  check_share("--novelty-fraction", options.novelty_fraction);
  if (name == "tours") return std::make_unique<TourSearch>(points, tour_settings(options), seed);
  if (const std::string option = tours_only(options); !option.empty())
    base::misuse("search", option + " means nothing to strategy '" + name +
                               "': leave it out, or use strategy 'tours'");
  if (name == "random") return std::make_unique<RandomSearch>(points, seed);
  if (name == "exhaustive") return std::make_unique<ExhaustiveSearch>(points, seed);
  if (name == "annealing") return std::make_unique<Annealing>(points, seed, options.budget);
  return std::make_unique<Genetic>(points, seed);
}

}  // namespace mlx_kd::search
