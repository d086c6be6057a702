#include <algorithm>
#include <cmath>

#include "tests/devices/simt/suite.h"

namespace mlx_kd::devices::simt {
namespace {

double silu(double v) {
  return v / (1 + std::exp(-v));
}

Values axpy(const Given& g) {
  Values y = g("y"), x = g("x");
  for (size_t i = 0; i < y.size(); ++i) y[i] += 2.5 * x[i];
  return y;
}

Values swiglu(const Given& g) {
  Values y = g("gate"), up = g("up");
  for (size_t i = 0; i < y.size(); ++i) y[i] = silu(y[i]) * up[i];
  return y;
}

Values transposed(const Given& g) {
  const Values x = g("x");
  Values y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i % 37 * 37 + i / 37] = x[i];
  return y;
}

Values vector4(const Given& g) {
  const Values x = g("x");
  Values y(x.size());
  for (size_t i = 0; i < x.size(); i += 4) {
    const double v[4] = {x[i + 1], x[i], x[i + 2] + 1, x[i + 3] + 2};
    for (size_t k = 0; k < 4; ++k) y[i + k] = 2 * v[3 - k] + v[0] + v[1] + v[2] + v[3];
  }
  return y;
}

Values packed3(const Given& g) {
  Values y = g("x");
  for (size_t i = 0; i < y.size(); i += 3) {
    const double x0 = y[i];
    y[i] = y[i + 1], y[i + 1] = -x0, y[i + 2] = 0;
  }
  return y;
}

Values matvec3(const Given& g) {
  const double m[3][3] = {{1, 4, 7}, {2, 5, 8}, {3, 6, 10}};  // rows
  const Values x = g("x");
  Values y(x.size(), 0);
  for (size_t i = 0; i < x.size(); i += 3)
    for (size_t r = 0; r < 3; ++r) {
      double v = 0;
      for (size_t c = 0; c < 3; ++c) v += m[r][c] * x[i + c];
      for (size_t c = 0; c < 3; ++c) y[i + c] += m[r][c] * v;
    }
  return y;
}

Values stencil(const Given& g) {
  const Values x = g("x");
  Values y(x.size());
  for (size_t i = 0; i < x.size(); ++i)
    y[i] = 0.25 * x[i ? i - 1 : 0] + 0.5 * x[i] + 0.25 * x[std::min(i + 1, x.size() - 1)];
  return y;
}

Values geometry(const Given& g) {
  Values y = g("x");
  const double n[3] = {2.0 / 3, -1.0 / 3, 2.0 / 3};
  for (size_t i = 0; i < y.size(); i += 3) {
    const double v[3] = {y[i], y[i + 1], y[i + 2]};
    double sorted[3] = {v[0], v[1], v[2]};
    std::sort(sorted, sorted + 3);
    const double d = v[0] * n[0] + v[1] * n[1] + v[2] * n[2];
    for (size_t k = 0; k < 3; ++k)
      y[i + k] = (d < 0 ? n[k] : -n[k]) + v[k] - (d + std::fabs(d)) * n[k] + sorted[k];
  }
  return y;
}

__extension__ typedef __int128 Wide;

Values saturated(const Given& g, bool wide) {
  const Values x = g("x"), w = g("w");
  Values y(x.size());
  for (size_t i = 0; i < y.size(); ++i) {
    const auto a = static_cast<int64_t>(x[i]), b = static_cast<int64_t>(w[i]);
    const Wide exact = wide ? static_cast<Wide>(a * 1024) * (b >> (i % 32)) + a
                            : static_cast<Wide>(a >> 15) * (b >> 16) + b;
    const int64_t high = wide ? INT64_MAX : INT32_MAX, low = wide ? INT64_MIN : INT32_MIN;
    y[i] = static_cast<double>(exact < low    ? low
                               : exact > high ? high
                                              : static_cast<int64_t>(exact));
  }
  return y;
}

}  // namespace

void add_elementwise(std::vector<SuiteCase>& list) {
  CaseList cases(list, "elementwise.metal");
  cases.add("axpy", {1000, 1, 1}, {256, 1, 1}, "x=rand:f32:[1000] a=2.5:f32 y=arange:f32:[1000]",
            "", axpy, 1e-6);
  cases.add(
      "silu_f16", {333, 1, 1}, {64, 1, 1}, "x=rand:f16:[333]", "y=f16:[333]",
      [](const Given& g) { return each(g, "x", silu); }, 1e-3);
  cases.add("swiglu", {500, 1, 1}, {128, 1, 1}, "gate=rand:f32:[500] up=rand:f32:[500]",
            "y=f32:[500]", swiglu, 1e-6);
  cases.add(
      "leaky", {256, 1, 1}, {64, 1, 1}, "x=rand:f16:[256]", "y=f16:[256]",
      [](const Given& g) { return each(g, "x", [](double v) { return v > 0 ? v : v / 8; }); },
      1e-7);
  cases.add(
      "bf16_scale", {256, 1, 1}, {64, 1, 1}, "x=rand:bf16:[256]", "y=bf16:[256]",
      [](const Given& g) { return each(g, "x", [](double v) { return 3 * v; }); }, 8e-3);
  cases.add("transpose2", {40, 37, 1}, {8, 16, 1}, "x=rand:f32:[37,37] shape=37:u32:[2]",
            "y=f32:[37,37]", transposed);
  cases.add("vector4", {64, 1, 1}, {32, 1, 1}, "x=rand:f32:[64,4]", "y=f32:[64,4]", vector4, 1e-5);
  cases.add("packed3", {20, 1, 1}, {32, 1, 1}, "x=rand:f32:[20,3]", "y=f32:[20,3]", packed3, 1e-6);
  cases.add("matvec3", {20, 1, 1}, {32, 1, 1}, "x=rand:f32:[20,3]", "y=f32:[20,3]", matvec3, 1e-5);
  cases.add("stencil", {300, 1, 1}, {64, 1, 1}, "x=rand:f32:[300] n=300:u32", "y=f32:[300]",
            stencil, 1e-6);
  cases.add(
      "apart", {50, 1, 1}, {32, 1, 1}, "x=rand:f32:[50,4]", "y=f32:[50,4]",
      [](const Given& g) { return each(g, "x", [](double v) { return 2 * v; }); }, 1e-5);
  cases.add("half_steps", {300, 1, 1}, {64, 1, 1}, "x=rand:f16:[300]", "y=f16:[300]",
            [](const Given& g) { return g("x"); });
  cases.add("geometry", {20, 1, 1}, {32, 1, 1}, "x=rand:f32:[20,3]", "y=f32:[20,3]", geometry,
            1e-5);
  cases.add("saturated", {400, 1, 1}, {64, 1, 1}, "x=bits:i32:[400] w=bits:i32:[400]",
            "y=i32:[400]", [](const Given& g) { return saturated(g, false); });
  cases.add("saturated_long", {400, 1, 1}, {64, 1, 1}, "x=bits:i32:[400] w=bits:i32:[400]",
            "y=i64:[400]", [](const Given& g) { return saturated(g, true); });
  cases
      .add(
          "power", {64, 1, 1}, {64, 1, 1}, "x=rand:f32:[64]", "y=f32:[64]",
          [](const Given& g) { return each(g, "x", [](double v) { return v * v * v; }); }, 1e-5)
      .constants = {{0, "3"}};
}

}  // namespace mlx_kd::devices::simt
