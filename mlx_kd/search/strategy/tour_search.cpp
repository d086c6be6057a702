#include "mlx_kd/search/strategy/tour_search.h"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>

#include "mlx_kd/search/space/fixed_math.h"

namespace mlx_kd::search {
namespace {

// What random numbers are drawn for.
enum Purpose : uint64_t { kTours, kCentre, kKind, kScales, kTrees };

constexpr double kLeastSd = 1e-9;  // of a belief that is asked for

// Mean and standard deviation, which is positive.
std::pair<double, double> moments(const std::vector<double>& values) {
  const double count = static_cast<double>(values.size());
  double sum = 0, squares = 0;
  for (double v : values) sum += v;
  const double mean = sum / count;
  for (double v : values) squares += (v - mean) * (v - mean);
  return {mean, std::sqrt(squares / count) + 1e-12};
}

}  // namespace

TourSearch::TourSearch(const Points& points, const TourSettings& settings, uint64_t seed)
    : settings_(settings),
      seed_(seed),
      features_(points),
      graph_(features_, settings.knn),
      tours_(features_, settings.tours, random_at(seed, 0, kTours).next(),
             settings.gap > 0 ? SIZE_MAX : settings.sort_limit),
      history_(points),
      prior_(features_),
      covered_(settings.tours),
      cold_{GaussianProcess(features_, settings.kernel), false},
      warm_{GaussianProcess(features_, settings.kernel), true},
      next_scales_(settings.first_scales) {}

std::vector<size_t> TourSearch::propose(size_t count) {
  std::vector<size_t> proposed;
  while (proposed.size() < count && history_.left() > 0) {
    const Choice choice = choose();
    history_.propose(choice.point);
    beliefs_.insert_or_assign(choice.point, choice);
    proposed.push_back(choice.point);
  }
  return proposed;
}

void TourSearch::observe(const Observation& observation) {
  take(observation);
  learn();
}

void TourSearch::observe_all(const std::vector<Observation>& observations) {
  for (const Observation& observation : observations) take(observation);
  learn();
}

void TourSearch::take(const Observation& observation) {
  history_.observe(observation);
  const auto believed = beliefs_.extract(observation.point);
  const size_t size = history_.size();
  if (believed && believed.mapped().sd > 0)
    outlook_.saw(std::min(history_.value(size - 1), cap_),
                 {believed.mapped().belief, believed.mapped().sd});
  outlook_.best_is(history_.best());
}

void TourSearch::learn() {
  if (history_.valid() < 2) return;
  const size_t size = history_.size();
  set_level();
  if (size <= settings_.process_limit && size >= next_scales_) {
    fit_scales();
    next_scales_ =
        static_cast<size_t>(std::ceil(static_cast<double>(size) * settings_.scales_growth));
  }
  if (size > settings_.process_limit && size >= next_trees_) {
    due_rows_ = size;
    due_cap_ = cap_;
    next_trees_ =
        static_cast<size_t>(std::ceil(static_cast<double>(size) * settings_.trees_growth));
  }
}

void TourSearch::take_share(size_t rank, size_t ranks) {
  ranks_ = ranks;
  history_.keep_share(tours_, 0, rank, ranks);
}

TourSearch::Choice TourSearch::choose() {
  expected_gain_.reset();
  const size_t step = history_.step();
  if (prior_.runs() > 0 && history_.valid() < 2) return prior_choice();
  if (step == 0 && ranks_ == 1) return {centre_point(), 0};  // else it may be another's
  const bool spreading = step < settings_.initial && prior_.runs() == 0;
  if (spreading || history_.valid() < 2) return {spread_point(), history_.best()};
  const double kind = random_at(seed_, step, kKind).uniform();
  if (kind < settings_.novelty) return {coverage_stop(step % tours_.count()), cap_};
  const std::vector<size_t> found = candidates(kind < settings_.novelty + settings_.exploit);
  if (found.empty()) return {coverage_stop(step % tours_.count()), cap_};
  return history_.size() <= settings_.process_limit ? best_by_process(found) : best_by_trees(found);
}

double TourSearch::off_centre(size_t point, double alignment_weight) const {
  double squared = 0;
  for (size_t column = 0; column < features_.columns(); ++column) {
    if (!features_.ordered(column)) continue;
    const bool is_knob = column < features_.dims();
    const double middle = is_knob ? 0.5 : settings_.centre_alignment;
    const double d = features_.position(column, features_.level(point, column)) - middle;
    squared += is_knob ? d * d : alignment_weight * d * d;
  }
  return squared;
}

std::vector<std::pair<double, size_t>> TourSearch::off_centre_of_many(double alignment_weight) {
  const size_t size = history_.points().size();
  const size_t looked_at = std::min(size, settings_.centre_search);
  std::vector<std::pair<double, size_t>> result;
  for (size_t i = 0; i < looked_at; ++i) {
    const size_t point = looked_at == size ? i : tours_.long_stop(0, i);
    result.push_back({off_centre(point, alignment_weight), point});
  }
  return result;
}

double TourSearch::mean_off_centre() {
  if (!mean_off_centre_) {
    const auto many = off_centre_of_many(1);
    double sum = 0;
    for (const auto& [squared, point] : many) sum += squared;
    mean_off_centre_ = sum / static_cast<double>(many.size());
  }
  return *mean_off_centre_;
}

size_t TourSearch::centre_point() {
  std::vector<std::pair<double, size_t>> nearest = off_centre_of_many(settings_.alignment_weight);
  size_t count = std::min(settings_.centre, nearest.size());
  std::partial_sort(nearest.begin(), nearest.begin() + static_cast<long>(count), nearest.end());
  while (nearest[count - 1].first > nearest[0].first + settings_.centre_slack) --count;
  return nearest[random_at(seed_, 0, kCentre).below(count)].second;
}

size_t TourSearch::spread_point() {
  const std::vector<size_t> stops = far_stops(settings_.spread);
  size_t farthest = history_.points().size();
  double most = -1;
  for (size_t stop : stops) {
    double least = HUGE_VAL;
    const auto approach = [&](size_t other) {
      least = std::min(least, features_.squared_distance(stop, other));
    };
    for (size_t i = 0; i < history_.size(); ++i) approach(history_.point(i));
    for (size_t other : history_.pending()) approach(other);
    if (least <= most) continue;
    most = least;
    farthest = stop;
  }
  return stops.empty() ? coverage_stop(history_.step() % tours_.count()) : farthest;
}

size_t TourSearch::coverage_stop(size_t tour) {
  while (history_.taken(tours_.long_stop(tour, covered_[tour]))) ++covered_[tour];
  if (settings_.gap == 0) return tours_.long_stop(tour, covered_[tour]);
  for (uint64_t step = covered_[tour]; step < tours_.size(); ++step)
    if (clear_of_taken(tour, step)) return tours_.long_stop(tour, step);
  return tours_.long_stop(tour, covered_[tour]);
}

// With a gap the long tours go over the short ones, whatever the size of the space.
bool TourSearch::clear_of_taken(size_t tour, uint64_t step) {
  if (settings_.gap == 0) return !history_.taken(tours_.long_stop(tour, step));
  const uint64_t size = tours_.size(), gap = std::min<uint64_t>(settings_.gap, size - 1);
  const uint64_t position = tours_.long_position(tour, step);
  for (uint64_t away = 0; away <= gap; ++away)
    if (history_.taken(tours_.short_stop(tour, position + away)) ||
        history_.taken(tours_.short_stop(tour, position + size - away)))
      return false;
  return true;
}

// The next stops of the long tours, round robin; they move on with every step. Of those that ranks
// look at together, each finds about `count` of its own.
std::vector<size_t> TourSearch::far_stops(size_t own) {
  std::vector<size_t> stops;
  const size_t count = ranks_ == 1 ? own : std::min<size_t>(own * ranks_, tours_.size());
  const uint64_t each = (count + tours_.count() - 1) / tours_.count();
  for (size_t i = 0; i < count; ++i) {
    const size_t tour = i % tours_.count();
    const uint64_t step = history_.step() * each + i / tours_.count();
    if (clear_of_taken(tour, step)) stops.push_back(tours_.long_stop(tour, step));
  }
  return stops;
}

std::vector<size_t> TourSearch::moves_of_best() {
  std::vector<size_t> moves;
  const std::vector<uint32_t>& ranking = history_.ranking();
  for (size_t elite = settings_.elite; moves.empty(); elite *= 2) {
    for (size_t i = 0; i < std::min(elite, history_.valid()); ++i) {
      const std::vector<uint32_t>& all = graph_.moves(history_.point(ranking[i]));
      for (size_t k = 0; k < std::min(settings_.moves, all.size()); ++k)
        if (!history_.taken(all[k])) moves.push_back(all[k]);
    }
    if (elite == 0 || elite >= history_.valid()) break;
  }
  return moves;
}

std::vector<size_t> TourSearch::candidates(bool moves_only) {
  std::vector<size_t> found = moves_of_best();
  if (!moves_only || found.empty())
    for (size_t stop : far_stops(settings_.stops)) found.push_back(stop);
  if (!moves_only)
    for (size_t point : best_of_prior()) found.push_back(point);
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

void TourSearch::add_prior(const std::vector<Observation>& run) {
  prior_.add(run);
  if (prior_.runs() == 0) return;
  const auto scaled = [this](size_t point) {
    std::vector<double> opinions = prior_.opinions(point);
    for (double& opinion : opinions) opinion /= prior_.spread();
    return opinions;
  };
  warm_.process.set_hints(scaled, settings_.hints);
}

// People choose the values of a knob round those that they expect to be good. Where no knob has an
// order, all points are as far from the middle.
double TourSearch::expected(const Model& model, size_t point) {
  if (model.warm) return prior_.mean_opinion(point) / model.sd;
  const double mean = mean_off_centre();
  return mean > 0 ? settings_.centre_trust * (off_centre(point, 1) / mean - 1) : 0;
}

std::vector<size_t> TourSearch::best_of_prior() {
  std::vector<size_t> best;
  if (prior_.runs() == 0) return best;
  for (size_t point : prior_.ranking()) {
    if (best.size() == settings_.prior_stops) break;
    if (!history_.taken(point)) best.push_back(point);
  }
  return best;
}

// Before there are two values to learn from: what the earlier runs liked best.
TourSearch::Choice TourSearch::prior_choice() {
  const std::vector<size_t> best = best_of_prior();
  const size_t tour = history_.step() % tours_.count();
  return {best.empty() ? coverage_stop(tour) : best[0], history_.best()};
}

void TourSearch::set_level() {
  const size_t valid = history_.valid();
  const std::vector<uint32_t>& ranking = history_.ranking();
  const size_t rank = static_cast<size_t>(settings_.cap * static_cast<double>(valid) + 0.5);
  cap_ = history_.value(ranking[std::min(std::max<size_t>(1, rank), valid - 1)]);
  if (prior_.runs() == 0) return;
  std::vector<double> rest;
  for (size_t i = 0; i < valid; ++i)
    rest.push_back(history_.value(ranking[i]) - prior_.mean_opinion(history_.point(ranking[i])));
  std::nth_element(rest.begin(), rest.begin() + static_cast<long>(valid / 2), rest.end());
  level_ = rest[valid / 2];
}

void TourSearch::load(Model& model, bool with_pending) {
  std::vector<size_t> rows;
  std::vector<double> targets;
  const double cap = model.warm ? std::max(level_, cap_) : cap_;
  const auto add = [&](size_t point, double value) {
    rows.push_back(point);
    targets.push_back(std::min(value, cap));
  };
  for (size_t i = 0; i < history_.size(); ++i) add(history_.point(i), history_.value(i));
  std::tie(model.mean, model.sd) =
      model.warm ? std::pair(level_, prior_.spread()) : moments(targets);
  if (with_pending)
    for (size_t point : history_.pending()) add(point, beliefs_.at(point).belief);
  for (size_t i = 0; i < rows.size(); ++i)
    targets[i] = (targets[i] - model.mean) / model.sd - expected(model, rows[i]);
  model.process.set_rows(rows);
  model.process.set_targets(targets);
}

void TourSearch::fit_scales() {
  base::Random random = random_at(seed_, history_.size(), kScales);
  for (Model* model : {&cold_, &warm_}) {
    if (model->warm && prior_.runs() == 0) continue;
    load(*model, false);
    model->process.fit_scales(random);
  }
}

TourSearch::Model& TourSearch::model_of(size_t step) {
  return prior_.runs() == 0 || step % settings_.doubt == settings_.doubt - 1 ? cold_ : warm_;
}

double TourSearch::value_to_beat(Model& model) {
  if (!settings_.doubted_best) return (history_.best() - model.mean) / model.sd;
  double best = HUGE_VAL;
  for (size_t i = 0; i < std::min(settings_.elite, history_.valid()); ++i) {
    const size_t point = history_.point(history_.ranking()[i]);
    best = std::min(best, model.process.predict(point).mean + expected(model, point));
  }
  return best;
}

TourSearch::Choice TourSearch::best_by_process(const std::vector<size_t>& found) {
  Model& model = model_of(history_.step());
  load(model, true);
  const double goal = value_to_beat(model);
  Choice best{found[0], 0};
  double most = -HUGE_VAL;
  std::vector<Prediction> beliefs;
  for (size_t point : found) {
    Prediction belief = model.process.predict(point);
    belief.mean += expected(model, point);
    beliefs.push_back({model.mean + model.sd * belief.mean, model.sd * belief.sd});
    const double score = log_expected_improvement(goal - settings_.margin, belief.mean, belief.sd);
    if (score <= most) continue;
    most = score;
    best = {point, beliefs.back().mean, beliefs.back().sd};
  }
  look_ahead(beliefs);
  return best;
}

const ExtraTrees& TourSearch::trees() {
  if (due_rows_ == 0) return *trees_;
  std::vector<size_t> rows;
  std::vector<double> targets;
  for (size_t i = 0; i < due_rows_; ++i) {
    rows.push_back(history_.point(i));
    targets.push_back(std::min(history_.value(i), due_cap_));
  }
  const uint64_t seed = random_at(seed_, due_rows_, kTrees).next();
  trees_.emplace(features_, rows, targets, settings_.trees, seed);
  tree_beliefs_.clear();
  due_rows_ = 0;
  return *trees_;
}

void TourSearch::look_ahead(const std::vector<Prediction>& beliefs) {
  const double gain = outlook_.look(history_.best(), beliefs);
  if (std::isfinite(gain)) expected_gain_ = gain;
}

TourSearch::Choice TourSearch::best_by_trees(const std::vector<size_t>& found) {
  const ExtraTrees& grown = trees();
  Choice best{found[0], 0};
  double least = HUGE_VAL;
  std::vector<Prediction> beliefs;
  for (size_t point : found) {
    auto known = tree_beliefs_.find(point);
    if (known == tree_beliefs_.end())
      known = tree_beliefs_.emplace(point, grown.predict(point)).first;
    const ExtraTrees::Spread& belief = known->second;
    beliefs.push_back({belief.mean, std::max(belief.sd, kLeastSd)});
    const double score = belief.mean - settings_.confidence * belief.sd;
    if (score >= least) continue;
    least = score;
    best = {point, belief.mean, beliefs.back().sd};
  }
  look_ahead(beliefs);
  return best;
}

}  // namespace mlx_kd::search
