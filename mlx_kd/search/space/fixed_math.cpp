#include "mlx_kd/search/space/fixed_math.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <iterator>

namespace mlx_kd::search {
namespace {

constexpr double kPerLog2 = 1.44269504088896340736;
constexpr double kLog2High = 0x1.62e42fee00000p-1, kLog2Low = 0x1.a39ef35793c76p-33;
constexpr double kLogSqrt2Pi = 0.918938533204672741780;

constexpr std::array<double, 14> inverse_factorials() {
  std::array<double, 14> c{1};
  double factorial = 1;
  for (size_t i = 1; i < c.size(); ++i) c[i] = 1 / (factorial *= static_cast<double>(i));
  return c;
}
constexpr std::array<double, 12> inverse_odds() {
  std::array<double, 12> c{};
  for (size_t i = 0; i < c.size(); ++i) c[i] = 1 / static_cast<double>(2 * i + 1);
  return c;
}
constexpr auto kInverseFactorial = inverse_factorials();
constexpr auto kInverseOdd = inverse_odds();

// No call and no branch, so that several are under way at once.
inline double exp_of(double x) {
  constexpr double kRounder = 0x1.8p52;  // sums with it have no place for a fraction
  const double in_range = std::max(std::min(x, 700.0), -700.0);
  const double shifted = in_range * kPerLog2 + kRounder, k = shifted - kRounder;
  const double r = (in_range - k * kLog2High) - k * kLog2Low;
  double sum = kInverseFactorial[13];
  for (size_t i = 13; i-- > 0;) sum = sum * r + kInverseFactorial[i];
  const uint64_t power = (std::bit_cast<uint64_t>(shifted) + 1023) << 52;
  return x < -700 ? 0 : sum * std::bit_cast<double>(power);
}

// Complementary error function of z >= 0, times exp(z^2); relative error 1.2e-7 (Press et al.,
// Numerical Recipes, 2nd edition, section 6.2, a Chebyshev fit).
double scaled_erfc(double z) {
  static constexpr double c[] = {-1.26551223, 1.00002368,  0.37409196, 0.09678418,  -0.18628806,
                                 0.27886807,  -1.13520398, 1.48851587, -0.82215223, 0.17087277};
  const double t = 1.0 / (1.0 + 0.5 * z);
  double sum = 0;
  for (size_t i = std::size(c); i-- > 0;) sum = sum * t + c[i];
  return t * fixed_exp(sum);
}

// Mills ratio form: (phi(u) + u Phi(u)) / phi(u).
double improvement_over_density(double u) {
  constexpr double kSqrtHalfPi = 1.25331413731550025;
  const double tail = kSqrtHalfPi * scaled_erfc(std::abs(u) * 0.70710678118654752);
  if (u <= 0) return 1 + u * tail;
  return 1 + u * (2 * kSqrtHalfPi * fixed_exp(0.5 * u * u) - tail);
}

}  // namespace

double fixed_exp(double x) {
  return exp_of(x);
}

void fixed_exp(double* x, size_t count) {
  for (size_t i = 0; i < count; ++i) x[i] = exp_of(x[i]);
}

double fixed_log(double x) {
  int exponent = 0;
  double m = std::frexp(x, &exponent);
  if (m < 0.70710678118654752) {
    m *= 2;
    --exponent;
  }
  const double s = (m - 1) / (m + 1), s2 = s * s;
  double sum = 0;
  for (size_t i = std::size(kInverseOdd); i-- > 0;) sum = sum * s2 + kInverseOdd[i];
  return exponent * kLog2High + (2 * s * sum + exponent * kLog2Low);
}

double log_expected_improvement(double best, double mean, double sd) {
  const double u = (best - mean) / sd;
  if (u > 30) return fixed_log(best - mean);
  const double log_density = -0.5 * u * u - kLogSqrt2Pi;
  if (u > -10) return fixed_log(sd * improvement_over_density(u)) + log_density;
  const double q = 1 / (u * u);  // asymptotic series; the fit above would cancel
  return fixed_log(sd * q * (1 - 3 * q * (1 - 5 * q * (1 - 7 * q)))) + log_density;
}

double normal_below(double z) {
  const double tail =
      0.5 * scaled_erfc(std::abs(z) * 0.70710678118654752) * fixed_exp(-0.5 * z * z);
  return z < 0 ? tail : 1 - tail;
}

double dot(const double* a, const double* b, size_t count) {
  double s0 = 0, s1 = 0, s2 = 0, s3 = 0;
  size_t i = 0;
  for (; i + 4 <= count; i += 4) {
    s0 += a[i] * b[i];
    s1 += a[i + 1] * b[i + 1];
    s2 += a[i + 2] * b[i + 2];
    s3 += a[i + 3] * b[i + 3];
  }
  for (; i < count; ++i) s0 += a[i] * b[i];
  return (s0 + s1) + (s2 + s3);
}

}  // namespace mlx_kd::search
