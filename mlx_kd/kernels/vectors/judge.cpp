#include "mlx_kd/kernels/vectors/judge.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/divide_up.h"

namespace mlx_kd::kernels::vectors {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();
constexpr double kLargest = std::numeric_limits<float>::max();
constexpr int64_t kMostProducts = int64_t(1) << 27;  // that are judged with all queries
constexpr int64_t kJudgedQueries = 8;

// Smaller is better.
double key_of(double distance, Metric metric) {
  return metric == Metric::l2 ? distance : -distance;
}

// Neither NaN nor the worst there is: an L2 distance that float32 holds, a product above -inf.
bool is_findable(double distance, Metric metric) {
  return metric == Metric::l2 ? distance <= kLargest : distance >= -kLargest;
}

using Found = std::unordered_map<int64_t, int64_t>;  // id: place

// Places, their order and the padding behind them; fills `found`.
double order_of(const Answer& answer, Found& found) {
  const double pad = answer.metric == Metric::l2 ? kLargest : -kLargest;
  for (int64_t i = 0; i < answer.k; ++i) {
    const int64_t id = answer.ids[i];
    if (id == -1) {
      if (static_cast<double>(answer.distances[i]) != pad) return kInfinite;
      continue;
    }
    if (!found.emplace(id, i).second || (i > 0 && answer.ids[i - 1] == -1)) return kInfinite;
    if (i == 0) continue;
    const double before = key_of(static_cast<double>(answer.distances[i - 1]), answer.metric);
    const double here = key_of(static_cast<double>(answer.distances[i]), answer.metric);
    if (!(before <= here)) return kInfinite;
    if (!answer.ids_of_rows && before == here && answer.ids[i - 1] > id) return kInfinite;
  }
  return 0;
}

}  // namespace

Distance64 distance64(const float* q, const float* x, int64_t width, Metric metric) {
  double apart = 0, product = 0, norms = 0;
  for (int64_t j = 0; j < width; ++j) {
    const double a = static_cast<double>(q[j]), b = static_cast<double>(x[j]);
    apart += (a - b) * (a - b);
    product += a * b;
    norms += a * a + b * b;
  }
  return {metric == Metric::l2 ? apart : product, 8 * 0x1p-24 * norms + 0x1p-126};
}

void Ratios::take(const Ratios& other) {
  distances = std::max(distances, other.distances);
  missed = std::max(missed, other.missed);
  order = std::max(order, other.order);
}

Ratios ratios_of(const Answer& answer) {
  Ratios ratios;
  Found found;
  ratios.order = order_of(answer, found);
  double worst = -kInfinite, worst_allowed = 0;
  std::vector<Distance64> others;
  int64_t seen = 0;
  for (const int64_t row : answer.rows) {
    const Distance64 d = answer.distance(row);
    const auto at = found.find(answer.ids_of_rows ? answer.ids_of_rows[row] : row);
    if (at == found.end()) {
      if (is_findable(d.value, answer.metric)) others.push_back(d);
      continue;
    }
    ++seen;
    const auto given = static_cast<double>(answer.distances[at->second]);
    const double error = given == d.value ? 0 : std::abs(given - d.value) / d.allowed;
    const bool is_right = is_findable(d.value, answer.metric) && !std::isnan(error);
    ratios.distances = std::max(ratios.distances, is_right ? error : kInfinite);
    if (key_of(d.value, answer.metric) > worst)
      worst = key_of(d.value, answer.metric), worst_allowed = d.allowed;
  }
  const auto count = static_cast<int64_t>(found.size());
  if (seen != count || (count < answer.k && !others.empty())) ratios.order = kInfinite;
  for (const Distance64& other : others)
    ratios.missed = std::max(ratios.missed, (worst - key_of(other.value, answer.metric)) /
                                                (worst_allowed + other.allowed));
  return ratios;
}

std::vector<spec::Residual> residuals_of(const Ratios& ratios) {
  return {{"error of the distances over 8 u (|q|^2 + |x|^2)", ratios.distances, 1},
          {"how much nearer a vector that was not found is", ratios.missed, 1},
          {"order, ids that occur twice, results that are missing", ratios.order, 0}};
}

void fill_rows(float* rows, int64_t count, int64_t width, spec::Distribution distribution,
               uint64_t seed) {
  base::Random random(seed);
  for (int64_t i = 0; i < count; ++i) {
    float* const row = rows + i * width;
    const double scale = distribution == spec::Distribution::magnitudes
                             ? std::exp2(static_cast<double>(random.below(40)) - 20)
                             : 1;
    for (int64_t j = 0; j < width; ++j) row[j] = static_cast<float>(scale * random.normal());
    if (distribution != spec::Distribution::special) continue;
    const float inf = std::numeric_limits<float>::infinity();
    const int64_t middle = width / 2, kind = i % 11;
    if (kind == 1) row[middle] = std::nanf("");
    if (kind == 3) row[middle] = inf;
    if (kind == 5) row[middle] = -inf;
    if (kind == 7) std::fill_n(row, width, 0.0f);
    if (kind == 9 || kind == 10) std::copy_n(rows, width, row);  // equal to the first
  }
}

std::vector<spec::Residual> flat_residuals(const spec::JudgedCase& judged, Metric metric) {
  const int64_t m = judged.dims.at("M"), n = judged.dims.at("N"), width = judged.dims.at("D");
  const int64_t k = judged.dims.at("k");
  const auto* queries = static_cast<const float*>(judged.inputs[0]);
  const auto* base = static_cast<const float*>(judged.inputs[1]);
  Answer answer{nullptr, metric, {}, nullptr, nullptr, nullptr, k};
  for (int64_t row = 0; row < n; ++row) answer.rows.push_back(row);
  const int64_t step = m * n * width > kMostProducts ? divide_up(m, kJudgedQueries) : 1;
  Ratios ratios;
  for (int64_t i = 0; i < m; i += step) {
    answer.distance = [=](int64_t row) {
      return distance64(queries + i * width, base + row * width, width, metric);
    };
    answer.distances = static_cast<const float*>(judged.outputs[0]) + i * k;
    answer.ids = static_cast<const int64_t*>(judged.outputs[1]) + i * k;
    ratios.take(ratios_of(answer));
  }
  return residuals_of(ratios);
}

}  // namespace mlx_kd::kernels::vectors
