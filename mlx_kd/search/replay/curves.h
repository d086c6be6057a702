// Two curves that the scorer draws through points.
#pragma once

#include <vector>

namespace mlx_kd::search {

struct WeightedPoint {
  double x, y, weight;
};

// The non-increasing function with the least weighted squared error (pool adjacent violators:
// Barlow et al. 1972, Statistical Inference under Order Restrictions, section 1.2). Points come
// sorted by x, at least one of positive weight; equal x are averaged first. Between points it is
// linear, outside constant.
class FallingFit {
 public:
  explicit FallingFit(const std::vector<WeightedPoint>& points);
  double operator()(double x) const;

 private:
  std::vector<double> x_, y_;
};

// Monotone piecewise cubic interpolation (Fritsch and Butland 1984, SIAM J. Sci. Stat. Comput.
// 5(2)), x ascending; two points give a line.
class MonotoneCubic {
 public:
  MonotoneCubic(std::vector<double> x, std::vector<double> y);
  double operator()(double x) const;  // x within the range

 private:
  std::vector<double> x_, y_, slope_;
};

}  // namespace mlx_kd::search
