#include "mlx_kd/search/replay/curves.h"

#include <algorithm>
#include <cmath>

namespace mlx_kd::search {
namespace {

std::vector<WeightedPoint> with_distinct_x(const std::vector<WeightedPoint>& points) {
  std::vector<WeightedPoint> merged;
  for (const WeightedPoint& p : points) {
    if (p.weight <= 0) continue;
    if (merged.empty() || merged.back().x != p.x) {
      merged.push_back(p);
      continue;
    }
    WeightedPoint& last = merged.back();
    last.y = (last.y * last.weight + p.y * p.weight) / (last.weight + p.weight);
    last.weight += p.weight;
  }
  return merged;
}

double sign(double x) {
  return x > 0 ? 1 : x < 0 ? -1 : 0;
}

// One-sided three-point slope at an end, kept from overshooting.
double end_slope(double h0, double h1, double d0, double d1) {
  const double slope = ((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1);
  if (sign(slope) != sign(d0)) return 0;
  if (sign(d0) != sign(d1) && std::abs(slope) > 3 * std::abs(d0)) return 3 * d0;
  return slope;
}

double inner_slope(double h0, double h1, double d0, double d1) {
  if (sign(d0) != sign(d1) || d0 == 0) return 0;
  const double w0 = 2 * h1 + h0, w1 = h1 + 2 * h0;
  return (w0 + w1) / (w0 / d0 + w1 / d1);
}

}  // namespace

FallingFit::FallingFit(const std::vector<WeightedPoint>& points) {
  struct Block {
    double y, weight;
    size_t count;
  };
  std::vector<Block> blocks;
  for (const WeightedPoint& p : with_distinct_x(points)) {
    x_.push_back(p.x);
    Block block{p.y, p.weight, 1};
    while (!blocks.empty() && blocks.back().y <= block.y) {
      const Block& last = blocks.back();
      block.y = (block.y * block.weight + last.y * last.weight) / (block.weight + last.weight);
      block.weight += last.weight;
      block.count += last.count;
      blocks.pop_back();
    }
    blocks.push_back(block);
  }
  for (const Block& block : blocks) y_.insert(y_.end(), block.count, block.y);
}

double FallingFit::operator()(double x) const {
  const size_t right = static_cast<size_t>(std::upper_bound(x_.begin(), x_.end(), x) - x_.begin());
  if (right == 0) return y_.front();
  if (right == x_.size()) return y_.back();
  const double share = (x - x_[right - 1]) / (x_[right] - x_[right - 1]);
  return y_[right - 1] + share * (y_[right] - y_[right - 1]);
}

MonotoneCubic::MonotoneCubic(std::vector<double> x, std::vector<double> y)
    : x_(std::move(x)), y_(std::move(y)), slope_(x_.size()) {
  const size_t count = x_.size();
  std::vector<double> h, d;
  for (size_t i = 0; i + 1 < count; ++i) {
    h.push_back(x_[i + 1] - x_[i]);
    d.push_back((y_[i + 1] - y_[i]) / h[i]);
  }
  if (count == 2) slope_ = {d[0], d[0]};
  if (count <= 2) return;
  slope_[0] = end_slope(h[0], h[1], d[0], d[1]);
  slope_[count - 1] = end_slope(h[count - 2], h[count - 3], d[count - 2], d[count - 3]);
  for (size_t i = 1; i + 1 < count; ++i) slope_[i] = inner_slope(h[i - 1], h[i], d[i - 1], d[i]);
}

double MonotoneCubic::operator()(double x) const {
  if (x_.size() == 1) return y_[0];
  size_t i = static_cast<size_t>(std::upper_bound(x_.begin(), x_.end(), x) - x_.begin());
  i = std::clamp<size_t>(i, 1, x_.size() - 1) - 1;
  const double h = x_[i + 1] - x_[i], t = (x - x_[i]) / h, s = 1 - t;
  return y_[i] * s * s * (1 + 2 * t) + y_[i + 1] * t * t * (1 + 2 * s) +
         h * s * t * (slope_[i] * s - slope_[i + 1] * t);
}

}  // namespace mlx_kd::search
