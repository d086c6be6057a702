// The tables of accuracy.h.
#include <gtest/gtest.h>

#include <cmath>
#include <span>

#include "tests/devices/simt/accuracy.h"

namespace mlx_kd::devices::simt {
namespace {

constexpr int kPoints = 40000;
constexpr double kPi = 3.14159265358979323846;

using One = double (*)(double);
using Two = double (*)(double, double);

// How far a result may be off, in units in the last place of the exact one, or absolutely.
struct Bound {
  double ulps = 0;  // 0.5 is correctly rounded, and exact where the exact result is a number
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
double fract_of_half(double x) {
  return std::min(x - std::floor(x), 0x1.ffcp-1);
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
double difference(double x, double w) {
  return x - w;
}
double product(double x, double w) {
  return x * w;
}
double fma_of(double x, double w) {
  return std::fma(x, w, x);
}
double fma_with_least_half(double x, double w) {
  return std::fma(x, w, 0x1p-24);
}
double frexp_part(double x) {
  int exponent = 0;
  return std::frexp(x, &exponent);
}
double frexp_exponent(double x) {
  int exponent = 0;
  std::frexp(x, &exponent);
  return exponent;
}
double ilogb_of(double x) {
  return std::ilogb(x);
}
double ldexp_of(double x, double w) {
  return std::ldexp(x, static_cast<int>(8 * w));
}
double ldexp_by_less(double x, double w) {
  return std::ldexp(x, static_cast<int>(2 * w));
}
double modf_part(double x) {
  double whole = 0;
  return std::modf(x, &whole);
}
double next_float(double x, double w) {
  return std::nextafter(static_cast<float>(x), static_cast<float>(w));
}
double next_half(double x, double w) {
  if (x == w) return w;
  const bool outwards = (w > x) == (x > 0);
  const int exponent = std::max(std::ilogb(x), -14);
  const bool power = std::fabs(x) == std::ldexp(1.0, exponent) && exponent > -14;
  const double step = std::ldexp(1.0, exponent - (power && !outwards ? 11 : 10));
  return x + (w > x ? step : -step);
}

// What gives a second result through a reference, as functions of x.
constexpr const char* kParts = R"(
T frexp_part(T x) { int n; return SPACE frexp(x, n); }
T frexp_exponent(T x) { int n; SPACE frexp(x, n); return T(n); }
T modf_part(T x) { T whole; return SPACE modf(x, whole); }
T modf_whole(T x) { T whole; SPACE modf(x, whole); return whole; }
T sincos_sine(T x) { T cosine; return SPACE sincos(x, cosine); }
T sincos_cosine(T x) { T cosine; SPACE sincos(x, cosine); return cosine; }
)";

const Function kPrecise[] = {
    {"x + w", -9, 9, {0.5}, nullptr, sum},
    {"x - w", -9, 9, {0.5}, nullptr, difference},
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
    {"precise::copysign(x, w)", -9, 9, {0.5}, nullptr, std::copysign},
    {"precise::cos(x)", -1000, 1000, {4}, std::cos},
    {"precise::cosh(x)", -80, 80, {4}, std::cosh},
    {"precise::cospi(x)", -50, 50, {4}, cospi},
    {"precise::exp(x)", -87, 88, {4}, std::exp},
    {"precise::exp2(x)", -125, 127, {4}, std::exp2},
    {"precise::exp10(x)", -37, 38, {4}, exp10_of},
    {"precise::fabs(x)", -9, 9, {0.5}, std::fabs},
    {"precise::fdim(x, w)", -9, 9, {0.5}, nullptr, std::fdim},
    {"precise::floor(x)", -1000, 1000, {0.5}, std::floor},
    {"precise::fma(x, w, x)", -9, 9, {0.5}, nullptr, fma_of},
    {"precise::fmax(x, w)", -9, 9, {0.5}, nullptr, std::fmax},
    {"precise::fmin(x, w)", -9, 9, {0.5}, nullptr, std::fmin},
    {"precise::fmod(x, w)", -9, 9, {0.5}, nullptr, std::fmod},
    {"precise::fract(x)", -9, 9, {0.5}, fract},
    {"frexp_part(x)", -1000, 1000, {0.5}, frexp_part},
    {"frexp_exponent(x)", -1000, 1000, {0.5}, frexp_exponent},
    {"float(precise::ilogb(x))", 1e-30, 1e30, {0.5}, ilogb_of},
    {"precise::ldexp(x, int(8 * w))", -9, 9, {0.5}, nullptr, ldexp_of},
    {"precise::log(x)", 1e-30, 1e30, {4}, std::log},
    {"precise::log2(x)", 1e-30, 1e30, {4}, std::log2},
    {"precise::log10(x)", 1e-30, 1e30, {4}, std::log10},
    {"modf_part(x)", -1000, 1000, {0.5}, modf_part},
    {"modf_whole(x)", -1000, 1000, {0.5}, std::trunc},
    {"precise::nextafter(x, w)", -9, 9, {0.5}, nullptr, next_float},
    {"precise::pow(x, w)", 0.001, 1000, {16}, nullptr, std::pow},
    {"precise::powr(x, w)", 0.001, 1000, {16}, nullptr, std::pow},
    {"precise::rint(x)", -1000, 1000, {0.5}, std::rint},
    {"precise::round(x)", -1000, 1000, {0.5}, std::round},
    {"precise::rsqrt(x)", 1e-30, 1e30, {0.5}, rsqrt},
    {"precise::sin(x)", -1000, 1000, {4}, std::sin},
    {"sincos_sine(x)", -1000, 1000, {4}, std::sin},
    {"sincos_cosine(x)", -1000, 1000, {4}, std::cos},
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
    {"fast::copysign(x, w)", -9, 9, {0.5}, nullptr, std::copysign},
    {"fast::cos(x)", -kPi, kPi, {0, 0x1p-13}, std::cos},
    {"fast::cospi(x)", -1, 1, {0, 0x1p-13}, cospi},
    {"fast::exp(x)", -87, 88, {3, 0, 2}, std::exp},
    {"fast::exp2(x)", -125, 127, {3, 0, 2}, std::exp2},
    {"fast::exp10(x)", -37, 38, {4, 0, 7}, exp10_of},
    {"fast::fabs(x)", -9, 9, {0.5}, std::fabs},
    {"fast::fdim(x, w)", -9, 9, {0.5}, nullptr, std::fdim},
    {"fast::floor(x)", -1000, 1000, {0.5}, std::floor},
    {"fast::fma(x, w, x)", -9, 9, {0.5}, nullptr, fma_of},
    {"fast::fmax(x, w)", -9, 9, {0.5}, nullptr, std::fmax},
    {"fast::fmin(x, w)", -9, 9, {0.5}, nullptr, std::fmin},
    {"fast::fmod(x, w)", -9, 9, {0.5}, nullptr, std::fmod},
    {"fast::fract(x)", -9, 9, {0.5}, fract},
    {"frexp_part(x)", -1000, 1000, {0.5}, frexp_part},
    {"frexp_exponent(x)", -1000, 1000, {0.5}, frexp_exponent},
    {"float(fast::ilogb(x))", 1e-30, 1e30, {0.5}, ilogb_of},
    {"fast::ldexp(x, int(8 * w))", -9, 9, {0.5}, nullptr, ldexp_of},
    {"fast::log(x)", 0.5, 2, {0, 0x1p-21}, std::log},
    {"fast::log(x)", 2, 1e30, {3}, std::log},
    {"fast::log2(x)", 0.5, 2, {0, 0x1p-22}, std::log2},
    {"fast::log2(x)", 2, 1e30, {2}, std::log2},
    {"fast::log10(x)", 2, 1e30, {4}, std::log10},
    {"modf_part(x)", -1000, 1000, {0.5}, modf_part},
    {"modf_whole(x)", -1000, 1000, {0.5}, std::trunc},
    {"fast::nextafter(x, w)", -9, 9, {0.5}, nullptr, next_float},
    {"fast::pow(x, w)", 2, 30, {99}, nullptr, std::pow},
    {"fast::rint(x)", -1000, 1000, {0.5}, std::rint},
    {"fast::round(x)", -1000, 1000, {0.5}, std::round},
    {"fast::rsqrt(x)", 1e-30, 1e30, {2}, rsqrt},
    {"fast::sin(x)", -kPi, kPi, {0, 0x1p-13}, std::sin},
    {"sincos_sine(x)", -kPi, kPi, {0, 0x1p-13}, std::sin},
    {"sincos_cosine(x)", -kPi, kPi, {0, 0x1p-13}, std::cos},
    {"fast::sinpi(x)", -1, 1, {0, 0x1p-13}, sinpi},
    {"fast::sqrt(x)", 1e-30, 1e30, {3}, std::sqrt},
    {"fast::tanh(x)", -10, 10, {0, 0x1p-20}, std::tanh},
    {"fast::trunc(x)", -1000, 1000, {0.5}, std::trunc},
};

const Function kHalf[] = {
    {"x + w", -9, 9, {0.5}, nullptr, sum},
    {"x - w", -9, 9, {0.5}, nullptr, difference},
    {"x * w", -9, 9, {0.5}, nullptr, product},
    {"1.0h / x", 0.01, 100, {0.5}, inverse},
    {"x / w", -9, 9, {0.5}, nullptr, quotient},
    {"acos(x)", -1, 1, {1}, std::acos},
    {"acosh(x)", 1, 1000, {1}, std::acosh},
    {"asin(x)", -1, 1, {1}, std::asin},
    {"asinh(x)", -1000, 1000, {1}, std::asinh},
    {"atan(x)", -100, 100, {1}, std::atan},
    {"atan2(x, w)", -9, 9, {1}, nullptr, std::atan2},
    {"atanh(x)", -0.99, 0.99, {1}, std::atanh},
    {"ceil(x)", -1000, 1000, {0.5}, std::ceil},
    {"copysign(x, w)", -9, 9, {0.5}, nullptr, std::copysign},
    {"cos(x)", -100, 100, {1}, std::cos},
    {"cosh(x)", -8, 8, {1}, std::cosh},
    {"cospi(x)", -50, 50, {1}, cospi},
    {"exp(x)", -9, 11, {1}, std::exp},
    {"exp2(x)", -13, 15, {1}, std::exp2},
    {"exp10(x)", -4, 4, {1}, exp10_of},
    {"fabs(x)", -9, 9, {0.5}, std::fabs},
    {"fdim(x, w)", -9, 9, {0.5}, nullptr, std::fdim},
    {"floor(x)", -1000, 1000, {0.5}, std::floor},
    {"fma(x, w, x)", -9, 9, {0.5}, nullptr, fma_of},
    {"fma(x, w, as_type<half>(ushort(1)))", -9, 9, {0.5}, nullptr, fma_with_least_half},
    {"fmax(x, w)", -9, 9, {0.5}, nullptr, std::fmax},
    {"fmin(x, w)", -9, 9, {0.5}, nullptr, std::fmin},
    {"fmod(x, w)", -9, 9, {0.5}, nullptr, std::fmod},
    {"fract(x)", -9, 9, {0.5}, fract_of_half},
    {"frexp_part(x)", -1000, 1000, {0.5}, frexp_part},
    {"frexp_exponent(x)", -1000, 1000, {0.5}, frexp_exponent},
    {"half(ilogb(x))", 0.001, 6e4, {0.5}, ilogb_of},
    {"ldexp(x, int(2 * w))", -9, 9, {0.5}, nullptr, ldexp_by_less},
    {"log(x)", 0.001, 6e4, {1}, std::log},
    {"log2(x)", 0.001, 6e4, {1}, std::log2},
    {"log10(x)", 0.001, 6e4, {1}, std::log10},
    {"modf_part(x)", -1000, 1000, {0.5}, modf_part},
    {"modf_whole(x)", -1000, 1000, {0.5}, std::trunc},
    {"nextafter(x, w)", -9, 9, {0.5}, nullptr, next_half},
    {"pow(x, w)", 0.1, 10, {1}, nullptr, std::pow},
    {"powr(x, w)", 0.1, 10, {1}, nullptr, std::pow},
    {"rint(x)", -1000, 1000, {0.5}, std::rint},
    {"round(x)", -1000, 1000, {0.5}, std::round},
    {"rsqrt(x)", 0.001, 6e4, {0.5}, rsqrt},
    {"sin(x)", -100, 100, {1}, std::sin},
    {"sincos_sine(x)", -100, 100, {1}, std::sin},
    {"sincos_cosine(x)", -100, 100, {1}, std::cos},
    {"sinh(x)", -8, 8, {1}, std::sinh},
    {"sinpi(x)", -50, 50, {1}, sinpi},
    {"sqrt(x)", 0.001, 6e4, {0.5}, std::sqrt},
    {"tan(x)", -100, 100, {1}, std::tan},
    {"tanh(x)", -9, 9, {1}, std::tanh},
    {"tanpi(x)", -50, 50, {1}, tanpi},
    {"trunc(x)", -1000, 1000, {0.5}, std::trunc},
};

struct Format {
  const char* type;  // in Metal
  const char* name;  // on the command line
  int digits;        // of its significand
  int least;         // exponent of its smallest normal number, and
  int most;          // of its largest
};

struct Contents {
  std::span<const Function> functions;
  Format format;
  const char* space;
};

Contents contents_of(AccuracyTable table) {
  static constexpr Format single = {"float", "f32", 24, -126, 127},
                          half = {"half", "f16", 11, -14, 15};
  if (table == AccuracyTable::precise) return {kPrecise, single, "precise::"};
  if (table == AccuracyTable::fast) return {kFast, single, "fast::"};
  return {kHalf, half, ""};
}

MslRequest points(const Function& function, const Format& format, size_t index) {
  MslRequest request;
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

struct Worst {
  double times = 0;  // its bound
  std::string where;
};

Worst worst_of(const Function& function, const Format& format, const MslRequest& done) {
  Worst worst;
  const HostArray &xs = done.arrays[0], &ws = done.arrays[1], &ys = done.arrays[2];
  for (size_t i = 0; i < kPoints; ++i) {
    const double x = xs.at(i), w = ws.at(i);
    if (x < function.low || x > function.high) continue;
    const double y = function.one ? function.one(x) : function.two(x, w);
    if (std::fabs(y) < std::ldexp(1.0, format.least)) continue;      // may be flushed to zero
    if (std::fabs(y) >= std::ldexp(1.0, format.most + 1)) continue;  // a pole
    const Bound& bound = function.bound;
    const double allowed = (bound.ulps + std::floor(bound.grows * std::fabs(x))) * ulp(y, format);
    const double times = std::fabs(ys.at(i) - y) / std::max(allowed, bound.absolute);
    if (times <= worst.times) continue;
    worst = {times, "x = " + std::to_string(x) + ", w = " + std::to_string(w) + ": " +
                        std::to_string(ys.at(i)) + ", not " + std::to_string(y)};
  }
  return worst;
}

}  // namespace

std::string accuracy_source(AccuracyTable table) {
  const Contents all = contents_of(table);
  const std::string t = all.format.type;
  std::string text = "#include <metal_stdlib>\nusing namespace metal;\n#define SPACE " +
                     std::string(all.space) + "\ntypedef " + t + " T;\n" + kParts;
  for (size_t i = 0; i < all.functions.size(); ++i)
    text += "kernel void f" + std::to_string(i) +
            "(device const T* a, device const T* b, device T* y, uint i "
            "[[thread_position_in_grid]]) {\n  const T x = a[i], w = b[i];\n  y[i] = " +
            all.functions[i].call + ";\n  (void)w;\n}\n";
  return text;
}

void check_accuracy(AccuracyTable table, const std::function<void(MslRequest&)>& run) {
  const Contents all = contents_of(table);
  for (size_t i = 0; i < all.functions.size(); ++i) {
    const Function& function = all.functions[i];
    MslRequest request = points(function, all.format, i);
    run(request);
    const Worst worst = worst_of(function, all.format, request);
    EXPECT_LE(worst.times, 1.0) << all.space << " " << function.call << " at " << worst.where;
  }
}

}  // namespace mlx_kd::devices::simt
