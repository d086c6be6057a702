#include "mlx_kd/search/space/features.h"

#include <algorithm>
#include <cmath>

#include "mlx_kd/search/space/fixed_math.h"

namespace mlx_kd::search {
namespace {

// The value indices that occur. Points spread over the space mostly show all of them at once.
std::vector<uint8_t> levels_present(const Points& points, size_t knob) {
  std::vector<bool> present(points.space().knobs[knob].values.size());
  size_t found = 0;
  const auto look = [&](size_t point) {
    const uint8_t level = points.value_index(point, knob);
    found += !present[level];
    present[level] = true;
  };
  constexpr size_t kProbes = 1024;
  for (size_t i = 0; i < kProbes; ++i) look(i * (points.size() - 1) / (kProbes - 1));
  for (size_t point = 0; point < points.size() && found < present.size(); ++point) look(point);
  std::vector<uint8_t> levels;
  for (size_t level = 0; level < present.size(); ++level)
    if (present[level]) levels.push_back(static_cast<uint8_t>(level));
  return levels;
}

bool is_logarithmic(const spec::Knob& knob) {
  return knob.scale == spec::KnobScale::log2 &&
         std::all_of(knob.values.begin(), knob.values.end(), [](int64_t v) { return v >= 0; });
}

std::vector<double> coordinates(const spec::Knob& knob) {
  std::vector<double> x(knob.values.begin(), knob.values.end());
  if (!is_logarithmic(knob)) return x;
  double least = HUGE_VAL;
  for (double v : x)
    if (v > 0) least = std::min(least, v);
  for (double& v : x) v = fixed_log(v > 0 ? v : least / 2);
  return x;
}

double alignment(int64_t value) {
  constexpr int kMost = 5;
  int twos = 0;
  while (twos < kMost && value != 0 && value % 2 == 0) {
    value /= 2;
    ++twos;
  }
  return twos;
}

}  // namespace

Features::Features(const Points& points) : points_(&points) {
  for (size_t knob = 0; knob < points.knobs(); ++knob) {
    const spec::Knob& what = points.space().knobs[knob];
    Dim dim{knob, what.scale != spec::KnobScale::choice, coordinates(what),
            levels_present(points, knob)};
    if (dim.levels.size() < 2) continue;
    scale(dim);
    dims_.push_back(std::move(dim));
  }
  dim_count_ = dims_.size();
  add_alignments();
}

// Levels by position, positions from 0 to 1.
void Features::scale(Dim& dim) const {
  if (!dim.ordered) return;
  std::stable_sort(dim.levels.begin(), dim.levels.end(),
                   [&](uint8_t a, uint8_t b) { return dim.position[a] < dim.position[b]; });
  const double low = dim.position[dim.levels.front()], high = dim.position[dim.levels.back()];
  for (double& x : dim.position) x = (x - low) / (high - low);
}

void Features::add_alignments() {
  for (size_t i = 0; i < dim_count_; ++i) {
    Dim dim = dims_[i];
    const std::vector<int64_t>& values = points_->space().knobs[dim.knob].values;
    const auto is_size = [&](uint8_t level) { return values[level] > 0; };
    const auto is_power = [&](uint8_t level) { return (values[level] & (values[level] - 1)) == 0; };
    const auto all = [&](auto holds) {
      return std::all_of(dim.levels.begin(), dim.levels.end(), holds);
    };
    if (!dim.ordered || dim.levels.size() < 4 || !all(is_size) || all(is_power)) continue;
    for (size_t level = 0; level < values.size(); ++level)
      dim.position[level] = alignment(values[level]);
    const double first = dim.position[dim.levels.front()];
    if (all([&](uint8_t level) { return dim.position[level] == first; })) continue;
    scale(dim);
    dims_.push_back(std::move(dim));
  }
}

double Features::distance(size_t dim, size_t a, size_t b) const {
  if (!dims_[dim].ordered) return a == b ? 0 : 1;
  return std::abs(dims_[dim].position[a] - dims_[dim].position[b]);
}

double Features::squared_distance(size_t a, size_t b) const {
  double sum = 0;
  for (size_t dim = 0; dim < dims(); ++dim) {
    const double d = distance(dim, level(a, dim), level(b, dim));
    sum += d * d;
  }
  return sum;
}

std::vector<double> feature_vector(const Features& features, size_t point) {
  std::vector<double> result;
  for (size_t dim = 0; dim < features.dims(); ++dim) {
    const size_t level = features.level(point, dim);
    result.push_back(features.ordered(dim) ? features.position(dim, level)
                                           : static_cast<double>(level) /
                                                 static_cast<double>(features.values(dim) - 1));
  }
  return result;
}

}  // namespace mlx_kd::search
