// The accuracy that Metal promises for its math functions: tables 8.1 (precise), 8.2 (fast) and 8.3
// (half) of the Metal Shading Language specification, version 4, section 8.4.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "mlx_kd/devices/simt/session.h"

namespace mlx_kd::devices::simt {
namespace {

constexpr int kPoints = 40000;
constexpr double kPi = 3.14159265358979323846;

using One = double (*)(double);
using Two = double (*)(double, double);

// How far a result may be off, in units in the last place of the exact one, or absolutely.
struct Bound {
  double ulps = 0;  // 0.5 is correctly rounded
  double absolute = 0;
  double grows = 0;  // ulps more for each |x|, floored: exp
};

struct Function {
  const char* call;  // of x, and of w: "precise::sin(x)"
  double low, high;  // of x; w lies in [-4, 4]
  Bound bound;
  One one = nullptr;
  Two two = nullptr;
};

double rsqrt(double x) {
  return 1 / std::sqrt(x);
}
double exp10_of(double x) {
  return std::pow(10.0, x);
}
double sinpi(double x) {
  return std::sin(kPi * std::remainder(x, 2.0));
}
double cospi(double x) {
  return std::cos(kPi * std::remainder(x, 2.0));
}
double tanpi(double x) {
  return std::tan(kPi * std::remainder(x, 1.0));
}
double fract(double x) {
  return std::min(x - std::floor(x), 0x1.fffffep-1);
}
double inverse(double x) {
  return 1 / x;
}
double quotient(double x, double w) {
  return x / w;
}
double sum(double x, double w) {
  return x + w;
}
double product(double x, double w) {
  return x * w;
}

const Function kPrecise[] = {
    {"x + w", -9, 9, {0.5}, nullptr, sum},
    {"x * w", -9, 9, {0.5}, nullptr, product},
    {"1.0f / x", 0.01, 100, {0.5}, inverse},
    {"x / w", -9, 9, {0.5}, nullptr, quotient},
    {"precise::acos(x)", -1, 1, {4}, std::acos},
    {"precise::acosh(x)", 1, 1000, {4}, std::acosh},
    {"precise::asin(x)", -1, 1, {4}, std::asin},
    {"precise::asinh(x)", -1000, 1000, {4}, std::asinh},
    {"precise::atan(x)", -100, 100, {5}, std::atan},
    {"precise::atan2(x, w)", -9, 9, {6}, nullptr, std::atan2},
    {"precise::atanh(x)", -0.999, 0.999, {5}, std::atanh},
    {"precise::ceil(x)", -1000, 1000, {0.5}, std::ceil},
    {"precise::cos(x)", -1000, 1000, {4}, std::cos},
    {"precise::cosh(x)", -80, 80, {4}, std::cosh},
    {"precise::cospi(x)", -50, 50, {4}, cospi},
    {"precise::exp(x)", -87, 88, {4}, std::exp},
    {"precise::exp2(x)", -125, 127, {4}, std::exp2},
    {"precise::exp10(x)", -37, 38, {4}, exp10_of},
    {"precise::fabs(x)", -9, 9, {0.5}, std::fabs},
    {"precise::fdim(x, w)", -9, 9, {0.5}, nullptr, std::fdim},
    {"precise::floor(x)", -1000, 1000, {0.5}, std::floor},
    {"precise::fmax(x, w)", -9, 9, {0.5}, nullptr, std::fmax},
    {"precise::fmin(x, w)", -9, 9, {0.5}, nullptr, std::fmin},
    {"precise::fmod(x, w)", -9, 9, {0.5}, nullptr, std::fmod},
    {"precise::fract(x)", -9, 9, {0.5}, fract},
    {"precise::log(x)", 1e-30, 1e30, {4}, std::log},
    {"precise::log2(x)", 1e-30, 1e30, {4}, std::log2},
    {"precise::log10(x)", 1e-30, 1e30, {4}, std::log10},
    {"precise::pow(x, w)", 0.001, 1000, {16}, nullptr, std::pow},
    {"precise::powr(x, w)", 0.001, 1000, {16}, nullptr, std::pow},
    {"precise::rint(x)", -1000, 1000, {0.5}, std::rint},
    {"precise::round(x)", -1000, 1000, {0.5}, std::round},
    {"precise::rsqrt(x)", 1e-30, 1e30, {0.5}, rsqrt},
    {"precise::sin(x)", -1000, 1000, {4}, std::sin},
    {"precise::sinh(x)", -80, 80, {4}, std::sinh},
    {"precise::sinpi(x)", -50, 50, {4}, sinpi},
    {"precise::sqrt(x)", 1e-30, 1e30, {0.5}, std::sqrt},
    {"precise::tan(x)", -1000, 1000, {6}, std::tan},
    {"precise::tanh(x)", -10, 10, {5}, std::tanh},
    {"precise::tanpi(x)", -50, 50, {6}, tanpi},
    {"precise::trunc(x)", -1000, 1000, {0.5}, std::trunc},
};

// Where the table says how a function is implemented, the bound is what that gives with the bounds
// of its parts.
const Function kFast[] = {
    {"fast::divide(x, w)", -9, 9, {2.5}, nullptr, quotient},
    {"fast::acos(x)", -1, 1, {5}, std::acos},
    {"fast::asin(x)", -1, 1, {5}, std::asin},
    {"fast::atan(x)", -100, 100, {5}, std::atan},
    {"fast::ceil(x)", -1000, 1000, {0.5}, std::ceil},
    {"fast::cos(x)", -kPi, kPi, {0, 0x1p-13}, std::cos},
    {"fast::cospi(x)", -1, 1, {0, 0x1p-13}, cospi},
    {"fast::exp(x)", -87, 88, {3, 0, 2}, std::exp},
    {"fast::exp2(x)", -125, 127, {3, 0, 2}, std::exp2},
    {"fast::exp10(x)", -37, 38, {4, 0, 7}, exp10_of},
    {"fast::fabs(x)", -9, 9, {0.5}, std::fabs},
    {"fast::floor(x)", -1000, 1000, {0.5}, std::floor},
    {"fast::fract(x)", -9, 9, {0.5}, fract},
    {"fast::log(x)", 0.5, 2, {0, 0x1p-21}, std::log},
    {"fast::log(x)", 2, 1e30, {3}, std::log},
    {"fast::log2(x)", 0.5, 2, {0, 0x1p-22}, std::log2},
    {"fast::log2(x)", 2, 1e30, {2}, std::log2},
    {"fast::log10(x)", 2, 1e30, {4}, std::log10},
    {"fast::pow(x, w)", 2, 30, {99}, nullptr, std::pow},
    {"fast::rint(x)", -1000, 1000, {0.5}, std::rint},
    {"fast::round(x)", -1000, 1000, {0.5}, std::round},
    {"fast::rsqrt(x)", 1e-30, 1e30, {2}, rsqrt},
    {"fast::sin(x)", -kPi, kPi, {0, 0x1p-13}, std::sin},
    {"fast::sinpi(x)", -1, 1, {0, 0x1p-13}, sinpi},
    {"fast::sqrt(x)", 1e-30, 1e30, {3}, std::sqrt},
    {"fast::tanh(x)", -10, 10, {0, 0x1p-20}, std::tanh},
    {"fast::trunc(x)", -1000, 1000, {0.5}, std::trunc},
};

const Function kHalf[] = {
    {"acos(x)", -1, 1, {1}, std::acos},      {"asin(x)", -1, 1, {1}, std::asin},
    {"atan(x)", -100, 100, {1}, std::atan},  {"cos(x)", -100, 100, {1}, std::cos},
    {"cosh(x)", -8, 8, {1}, std::cosh},      {"exp(x)", -9, 11, {1}, std::exp},
    {"exp2(x)", -13, 15, {1}, std::exp2},    {"log(x)", 0.001, 6e4, {1}, std::log},
    {"log2(x)", 0.001, 6e4, {1}, std::log2}, {"log10(x)", 0.001, 6e4, {1}, std::log10},
    {"rsqrt(x)", 0.001, 6e4, {0.5}, rsqrt},  {"sin(x)", -100, 100, {1}, std::sin},
    {"sinh(x)", -8, 8, {1}, std::sinh},      {"sqrt(x)", 0.001, 6e4, {0.5}, std::sqrt},
    {"tan(x)", -100, 100, {1}, std::tan},    {"tanh(x)", -9, 9, {1}, std::tanh},
    {"1.0h / x", 0.01, 100, {0.5}, inverse}, {"x / w", -9, 9, {0.5}, nullptr, quotient},
    {"x + w", -9, 9, {0.5}, nullptr, sum},   {"x * w", -9, 9, {0.5}, nullptr, product},
};

struct Format {
  const char* type;  // in Metal
  const char* name;  // on the command line
  int digits;        // of its significand
  int least;         // exponent of its smallest normal number
};
constexpr Format kFloat = {"float", "f32", 24, -126}, kHalfFormat = {"half", "f16", 11, -14};

template <size_t N>
std::string source(const Function (&table)[N], const Format& format) {
  const std::string t = format.type;
  std::string text = "#include <metal_stdlib>\nusing namespace metal;\n";
  for (size_t i = 0; i < N; ++i)
    text += "kernel void f" + std::to_string(i) + "(device const " + t + "* a, device const " + t +
            "* b, device " + t + "* y, uint i [[thread_position_in_grid]]) {\n  const " + t +
            " x = a[i], w = b[i];\n  y[i] = " + table[i].call + ";\n  (void)w;\n}\n";
  return text;
}

Request points(const Function& function, const Format& format, size_t index) {
  Request request;
  request.kernel = "f" + std::to_string(index);
  request.grid = {kPoints, 1, 1};
  request.threadgroup = {1000, 1, 1};
  for (const char* name : {"a", "b", "y"})
    request.arrays.push_back(
        parse_output(std::string(name) + "=" + format.name + ":[" + std::to_string(kPoints) + "]"));
  // Wide ranges are walked by ratio, others evenly.
  const bool wide = function.low > 0 && function.high / function.low > 100;
  for (int i = 0; i < kPoints; ++i) {
    const double u = (i + 0.5) / kPoints;
    request.arrays[0].set(static_cast<size_t>(i),
                          wide ? function.low * std::pow(function.high / function.low, u)
                               : function.low + (function.high - function.low) * u);
    request.arrays[1].set(static_cast<size_t>(i), 4 * std::sin(1.0 + 7.0 * i));
  }
  return request;
}

// The spacing of the format's numbers around y.
double ulp(double y, const Format& format) {
  const int exponent = y == 0 ? format.least : std::ilogb(y);
  return std::ldexp(1.0, std::max(exponent, format.least) - format.digits + 1);
}

// The worst result: how many times its bound it is off.
double worst(const Function& function, const Format& format, Session& session, size_t index,
             std::string& where) {
  Request request = points(function, format, index);
  session.run(request);
  double most = 0;
  for (size_t i = 0; i < kPoints; ++i) {
    const double x = request.arrays[0].at(i), w = request.arrays[1].at(i);
    if (x < function.low || x > function.high) continue;
    const double y = function.one ? function.one(x) : function.two(x, w);
    if (std::fabs(y) < std::ldexp(1.0, format.least)) continue;  // may be flushed to zero
    const Bound& bound = function.bound;
    const double allowed = (bound.ulps + std::floor(bound.grows * std::fabs(x))) * ulp(y, format);
    const double off = std::fabs(request.arrays[2].at(i) - y) / std::max(allowed, bound.absolute);
    if (off <= most) continue;
    most = off;
    where = "x = " + std::to_string(x) + ", w = " + std::to_string(w);
  }
  return most;
}

template <size_t N>
void check(const Function (&table)[N], const Format& format) {
  Session session("accuracy.metal", source(table, format), {}, {});
  for (size_t i = 0; i < N; ++i) {
    std::string where;
    EXPECT_LE(worst(table[i], format, session, i, where), 1.0) << table[i].call << " at " << where;
  }
}

TEST(Accuracy, OfPreciseFunctionsIsMetals) {
  check(kPrecise, kFloat);
}

TEST(Accuracy, OfFastFunctionsIsMetals) {
  check(kFast, kFloat);
}

TEST(Accuracy, OfHalfFunctionsIsMetals) {
  check(kHalf, kHalfFormat);
}

}  // namespace
}  // namespace mlx_kd::devices::simt
