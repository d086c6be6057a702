#include "mlx_kd/search/strategy/gaussian_process.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "mlx_kd/search/space/fixed_math.h"

namespace mlx_kd::search {
namespace {

constexpr int kMaxScale = 3, kLeastAmplitude = -5, kMostAmplitude = 2;

}  // namespace

GaussianProcess::GaussianProcess(const Features& features, const KernelSettings& settings)
    : features_(&features),
      settings_(settings),
      scales_(features.columns()),
      tables_(features.columns()) {
  places_.levels.resize(features.columns());
  for (size_t dim = 0; dim < features.columns(); ++dim) tabulate(dim);
}

void GaussianProcess::tabulate(size_t dim) {
  Table& table = tables_[dim];
  table.width = features_->values(dim);
  table.additive.resize(table.width * table.width);
  table.squared.resize(table.width * table.width);
  const double stretch = std::ldexp(1.0, scales_[dim]);
  for (size_t a = 0; a < table.width; ++a)
    for (size_t b = 0; b < table.width; ++b) {
      const double d = stretch * features_->distance(dim, a, b);
      const double r = d / settings_.product_length;
      table.additive[a * table.width + b] =
          fixed_exp(-d / settings_.additive_length) / static_cast<double>(tables_.size());
      table.squared[a * table.width + b] = r * r;
    }
}

void GaussianProcess::set_hints(Hints hints, const HintSettings& settings) {
  hints_ = std::move(hints);
  hint_settings_ = settings;
}

double GaussianProcess::with_hints(double k, const std::vector<double>& a,
                                   const std::vector<double>& b) const {
  const double agreement = dot(a.data(), b.data(), a.size()) / static_cast<double>(a.size());
  return std::ldexp(k, hint_settings_.amplitude) + hint_settings_.trust * agreement +
         hint_settings_.level;
}

// Of a place with itself: A is 1 and r is 0.
double GaussianProcess::variance_of(const Place& place) const {
  return hints_ ? with_hints(1, place.hints, place.hints) : 1;
}

// With the training rows from first to last: column by column and then row by row, so that the
// processor has several rows under way. The result starts at row `first` and lasts until the next
// call.
const double* GaussianProcess::covariances(const Place& place, size_t first, size_t last) {
  const size_t count = last - first;
  sum_columns(place, first, last);
  for (size_t i = 0; i < count; ++i) {
    distance_[i] = std::sqrt(distance_[i]);
    decay_[i] = -distance_[i];
  }
  fixed_exp(decay_.data(), count);
  for (size_t i = 0; i < count; ++i) {
    const double a = additive_[i];
    const double sums = (1 - settings_.pairs) * a + settings_.pairs * a * a;
    additive_[i] =
        settings_.additive * sums + (1 - settings_.additive) * (1 + distance_[i]) * decay_[i];
  }
  if (hints_)
    for (size_t i = 0; i < count; ++i)
      additive_[i] = with_hints(additive_[i], places_.hints[first + i], place.hints);
  return additive_.data();
}

void GaussianProcess::sum_columns(const Place& place, size_t first, size_t last) {
  const size_t count = last - first;
  additive_.assign(count, 0);
  distance_.assign(count, 0);
  decay_.resize(count);
  for (size_t column = 0; column < tables_.size(); ++column) {
    const Table& table = tables_[column];
    const double* const additive = &table.additive[place.levels[column] * table.width];
    const double* const squared = &table.squared[place.levels[column] * table.width];
    const uint8_t* const level = places_.levels[column].data() + first;
    for (size_t i = 0; i < count; ++i) {
      additive_[i] += additive[level[i]];
      distance_[i] += squared[level[i]];
    }
  }
}

GaussianProcess::Place GaussianProcess::place_of(size_t point) const {
  Place place{std::vector<uint8_t>(features_->columns()), {}};
  for (size_t column = 0; column < place.levels.size(); ++column)
    place.levels[column] = features_->level(point, column);
  if (hints_) place.hints = hints_(point);
  return place;
}

GaussianProcess::Place GaussianProcess::place_of_row(size_t row) const {
  Place place;
  for (const auto& column : places_.levels) place.levels.push_back(column[row]);
  if (hints_) place.hints = places_.hints[row];
  return place;
}

void GaussianProcess::set_rows(const std::vector<size_t>& points) {
  const size_t shared = static_cast<size_t>(
      std::mismatch(rows_.begin(), rows_.end(), points.begin(), points.end()).first -
      rows_.begin());
  if (shared < rows_.size()) projections_.clear();
  rows_ = points;
  for (auto& column : places_.levels) column.resize(shared);
  places_.hints.resize(shared);
  for (size_t i = shared; i < rows_.size(); ++i) {
    Place place = place_of(rows_[i]);
    for (size_t column = 0; column < place.levels.size(); ++column)
      places_.levels[column].push_back(place.levels[column]);
    places_.hints.push_back(std::move(place.hints));
  }
  factorise(shared);
}

void GaussianProcess::factorise(size_t first_row) {
  factor_.resize(rows_.size());
  for (size_t a = first_row; a < rows_.size(); ++a) {
    const Place place = place_of_row(a);
    const double* const k = covariances(place, 0, a);
    std::vector<double>& row = factor_[a];
    row.resize(a + 1);
    for (size_t b = 0; b < a; ++b)
      row[b] = (k[b] - dot(row.data(), factor_[b].data(), b)) / factor_[b][b];
    const double rest = variance_of(place) - dot(row.data(), row.data(), a);
    row[a] = std::sqrt(std::max(rest + std::ldexp(settings_.noise, noise_), 1e-10));
  }
}

void GaussianProcess::set_targets(const std::vector<double>& targets) {
  targets_ = targets;
  solve_targets();
}

void GaussianProcess::solve_targets() {
  solved_.resize(rows_.size());
  for (size_t a = 0; a < rows_.size(); ++a)
    solved_[a] = (targets_[a] - dot(factor_[a].data(), solved_.data(), a)) / factor_[a][a];
}

Prediction GaussianProcess::predict(size_t point) {
  Projection& projection = projections_[point];
  std::vector<double>& w = projection.weights;
  const size_t known = w.size();
  if (known < rows_.size()) {
    const Place place = place_of(point);
    projection.variance = variance_of(place);
    const double* const k = covariances(place, known, rows_.size());
    w.resize(rows_.size());
    for (size_t a = known; a < rows_.size(); ++a) {
      w[a] = (k[a - known] - dot(factor_[a].data(), w.data(), a)) / factor_[a][a];
      projection.squared += w[a] * w[a];
    }
  }
  return {dot(w.data(), solved_.data(), w.size()),
          std::sqrt(std::max(projection.variance - projection.squared, 1e-12))};
}

double GaussianProcess::log_likelihood() const {
  double sum = -0.5 * dot(solved_.data(), solved_.data(), solved_.size());
  for (size_t a = 0; a < rows_.size(); ++a) sum -= fixed_log(factor_[a][a]);
  return sum;
}

double GaussianProcess::refitted_likelihood() {
  factorise(0);
  solve_targets();
  return log_likelihood();
}

bool GaussianProcess::try_scale(size_t dim, int scale, double& best) {
  const int before = scales_[dim];
  if (std::abs(scale) > kMaxScale) return false;
  scales_[dim] = scale;
  tabulate(dim);
  const double likelihood = refitted_likelihood();
  if (likelihood - settings_.shrinkage * (scale * scale - before * before) > best) {
    best = likelihood;
    return true;
  }
  scales_[dim] = before;
  tabulate(dim);
  return false;
}

bool GaussianProcess::try_amplitude(int amplitude, double& best) {
  if (amplitude < kLeastAmplitude || amplitude > kMostAmplitude) return false;
  const int before = hint_settings_.amplitude;
  hint_settings_.amplitude = amplitude;
  const double likelihood = refitted_likelihood();
  if (likelihood > best) {
    best = likelihood;
    return true;
  }
  hint_settings_.amplitude = before;
  return false;
}

bool GaussianProcess::try_noise(int doublings, double& best) {
  if (doublings < 0 || doublings > settings_.noise_doublings) return false;
  const int before = noise_;
  noise_ = doublings;
  const double likelihood = refitted_likelihood();
  if (likelihood > best) {
    best = likelihood;
    return true;
  }
  noise_ = before;
  return false;
}

void GaussianProcess::fit_scales(base::Random& random) {
  double best = log_likelihood();
  std::vector<size_t> order(scales_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  for (size_t left = order.size(); left > 0; --left) {
    std::swap(order[left - 1], order[random.below(left)]);
    const size_t dim = order[left - 1];
    const int scale = scales_[dim];
    if (!try_scale(dim, scale + 1, best)) try_scale(dim, scale - 1, best);
  }
  const int amplitude = hint_settings_.amplitude;
  if (hints_ && !try_amplitude(amplitude + 1, best)) try_amplitude(amplitude - 1, best);
  const int noise = noise_;
  if (!try_noise(noise + 1, best)) try_noise(noise - 1, best);
  projections_.clear();
  factorise(0);
  solve_targets();
}

}  // namespace mlx_kd::search
