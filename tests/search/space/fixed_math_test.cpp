#include "mlx_kd/search/space/fixed_math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace mlx_kd::search {
namespace {

TEST(FixedMath, ExpIsCloseToTheLibrarys) {
  for (double x = -699.7; x < 700; x += 0.37)
    EXPECT_NEAR(fixed_exp(x) / std::exp(x), 1, 1e-14) << x;
  EXPECT_EQ(fixed_exp(0), 1);
  EXPECT_EQ(fixed_exp(-1e9), 0);
  EXPECT_TRUE(std::isfinite(fixed_exp(1e9)));
}

TEST(FixedMath, LogIsCloseToTheLibrarys) {
  for (double x = 1e-300; x < 1e300; x *= 1.37)
    EXPECT_NEAR(fixed_log(x), std::log(x), 1e-15 * (1 + std::abs(std::log(x)))) << x;
  EXPECT_EQ(fixed_log(1), 0);
}

// By its definition, integrated.
double integrated(double u) {
  const double low = -12;
  double sum = 0;
  const int steps = 200000;
  for (int i = 0; i < steps; ++i) {
    const double y = low + (u - low) * (i + 0.5) / steps;
    sum += (u - y) * std::exp(-0.5 * y * y) / std::sqrt(2 * M_PI);
  }
  return sum * (u - low) / steps;
}

TEST(FixedMath, ExpectedImprovementIsItsIntegral) {
  for (double u : {-6.0, -3.0, -1.0, -0.1, 0.0, 0.4, 2.0, 5.0})
    EXPECT_NEAR(log_expected_improvement(2 + 3 * u, 2, 3), std::log(3 * integrated(u)), 1e-5) << u;
}

TEST(FixedMath, ExpectedImprovementStaysOrderedInBothTails) {
  double before = -HUGE_VAL;
  for (double u = -1000; u < 1000; u += 0.01) {
    const double here = log_expected_improvement(u, 0, 1);
    ASSERT_TRUE(std::isfinite(here)) << u;
    ASSERT_GT(here, before) << u;
    before = here;
  }
}

TEST(FixedMath, DotSumsAllProducts) {
  std::vector<double> a, b;
  double sum = 0;
  for (int i = 0; i < 19; ++i) {
    EXPECT_DOUBLE_EQ(dot(a.data(), b.data(), a.size()), sum);
    a.push_back(i);
    b.push_back(i - 7);
    sum += i * (i - 7.0);
  }
}

}  // namespace
}  // namespace mlx_kd::search
