#include <algorithm>
#include <bit>
#include <cmath>

#include "tests/devices/simt/suite.h"

namespace mlx_kd::devices::simt {
namespace {

// A grid of 10 x 5 x 3 in groups of 4 x 2 x 2: partial groups at every end.
Values places(const Given&) {
  constexpr int kGrid[3] = {10, 5, 3}, kGroup[3] = {4, 2, 2};
  constexpr int kWeights[3] = {1, 17, 19};
  Values y;
  for (int z = 0; z < 3; ++z)
    for (int row = 0; row < 5; ++row)
      for (int x = 0; x < 10; ++x) {
        const int at[3] = {x, row, z};
        int size[3], local[3];
        double r = 1000000 + 43 * 1 + 47 * 4;
        for (int d = 0; d < 3; ++d) {
          const int group = at[d] / kGroup[d], groups = (kGrid[d] - 1) / kGroup[d] + 1;
          size[d] = std::min(kGroup[d], kGrid[d] - group * kGroup[d]);
          local[d] = at[d] % kGroup[d];
          r += kWeights[d] *
               (at[d] + 3 * local[d] + 5 * size[d] + 7 * group + 11 * groups + 13 * kGroup[d]);
        }
        const int index = local[0] + size[0] * (local[1] + size[1] * local[2]);
        const int threads = size[0] * size[1] * size[2];
        y.push_back(r + 1000 * index + index % 32 + 29 * ((threads + 31) / 32) + 31 * (index / 4) +
                    37 * ((threads + 3) / 4) + 41 * (index % 4));
      }
  return y;
}

Values places16(const Given&) {
  Values y;
  for (int row = 0; row < 7; ++row)
    for (int x = 0; x < 13; ++x) {
      const int width = x < 8 ? 8 : 5;
      y.push_back(x % 8 + width * (row % 4) + x % 8), y.push_back(row);
    }
  return y;
}

// The words of Settings: n, then scale, offset[3], taps[2] of each stage.
Values staged(const Given& g) {
  return each(g, "x", [](double v) { return ((v * 2 + 3) * 2 * 0.5 - 1) * 3; });
}

double casts(double value) {
  const auto v = static_cast<float>(value);
  const auto bits = std::bit_cast<uint32_t>(v);
  HostArray half = parse_output("h=f16:[1]");
  half.set(0, value);
  const auto back = static_cast<float>(half.at(0));
  return std::bit_cast<uint32_t>(back) ^ bits ^ 0x04030201u;
}

Values packed_types(const Given& g) {
  const Values h = g("h"), u = g("u");
  Values y;
  for (size_t i = 0; i < 50; ++i) {
    y.push_back(u[4 * i] - u[4 * i + 3] + u[4 * i + 1]);
    y.push_back(std::trunc(static_cast<float>(h[4 * i + 1]) * 100.0f));
  }
  return y;
}

Values swizzles(const Given& g) {
  const Values x = g("x");
  Values y;
  for (size_t i = 0; i < x.size(); i += 4) {
    double v[4] = {x[i], x[i + 1], x[i + 2], x[i + 3]};
    const double x0 = v[0];
    v[0] = v[2] + v[1], v[2] = x0 + v[1], v[3] *= 2;
    const double r = v[0], b = v[2];
    v[0] -= b * 0.5, v[1] -= v[1] * 0.5, v[2] -= r * 0.5;
    const double part[3] = {v[3], v[1], v[0]};
    v[1] += part[2], v[3] += part[0];
    y.insert(y.end(), {part[1] + v[2], v[0] + v[1], v[0] + v[0], v[0] + v[3]});
  }
  return y;
}

double controlled(double value) {
  int v = static_cast<int>(value), r = 0;
  const int kind = v % 6;
  if (kind == 0)
    r = 1;
  else if (kind == 4)
    r = 12;
  else if (kind == 5)
    r = 10;
  else
    r = -1;
  while (true) {
    if (v % 2 == 1) {
      v -= 1;
    } else {
      v /= 2;
      ++r;
    }
    if (v <= 2) break;
  }
  r += 0 * 10 + 3 * 9 + 6 * 8;
  return r * 100 + (r > 20 ? 2 : 1);
}

double related(double v) {
  const double w[3] = {v, 1 - v, 0.5};
  const int low = (w[0] < 0.25) + (w[1] < 0.25);
  double r = (low ? 1 : 0) + 4 + 8;
  r += (v > 0.5 ? 20 : 10) + (1 + 2 * v) + (v < 0.5 ? 0 : 1) + v * v * (3 - 2 * v);
  for (const double one : w) r += std::clamp(one, 0.3, 0.6);
  const double size = std::sqrt(w[0] * w[0] + w[1] * w[1] + 0.25);
  r += (v > 0.5) - (v < 0.5) + (v * 3 - std::floor(v * 3)) + std::min(v * 2, 1.0) + 2 * v + 1;
  r += size + size + size - v + 1.5;
  double three[3] = {v, 0.2, 0.4};
  std::sort(three, three + 3);
  return r + three[2] + three[1] + std::trunc(v * 10) + std::nearbyint(v * 4);
}

double whole_numbers(double value) {
  const auto v = static_cast<int32_t>(value);
  const auto u = static_cast<uint32_t>(v);
  const auto s = static_cast<int16_t>(v);
  const auto byte = static_cast<uint8_t>(v);
  const auto saturated = [](int64_t a, int64_t low, int64_t high) {
    return std::clamp(a, low, high);
  };
  const auto floor_half = [](int64_t a) { return a >> 1; };
  int32_t r = static_cast<int32_t>(saturated(int64_t{v} + 2147483647, INT32_MIN, INT32_MAX));
  r ^= static_cast<int32_t>(saturated(int64_t{v} - 5, INT32_MIN, INT32_MAX));
  r ^= static_cast<int32_t>(floor_half(int64_t{v} + 3));
  r ^= static_cast<int32_t>(floor_half(int64_t{v} + 4 + 1));
  r ^= v * 3 + 7;
  r ^= v * -2;
  r += static_cast<int32_t>(saturated(s + 32760, -32768, 32767)) + std::max(byte - 200, 0);
  r += std::abs(v) + std::min(v, 17) + std::max(v, -3) + std::clamp(v, -5, 5);
  r += std::countl_zero(u) + std::popcount(byte) + std::countr_zero(u | 256u);
  r += static_cast<int32_t>(int64_t{v} * (1 << 20) >> 32);
  r += static_cast<int32_t>(int64_t{v} * (1 << 21) >> 32) + 5;
  const int field = static_cast<int>(u << 25) >> 27;
  return r + static_cast<int32_t>(std::rotl(u, 7) & 1023u) + field + std::min(v, 3) +
         std::abs(v - 4);
}

// The upper half of a product, by 32-bit digits.
uint64_t upper_half(uint64_t a, uint64_t b) {
  const uint64_t low = (a & 0xffffffff) * (b & 0xffffffff);
  const uint64_t cross = (a >> 32) * (b & 0xffffffff) + (low >> 32);
  const uint64_t other = (a & 0xffffffff) * (b >> 32) + (cross & 0xffffffff);
  return (a >> 32) * (b >> 32) + (cross >> 32) + (other >> 32);
}

double wide(double value) {
  const int64_t v = static_cast<int64_t>(value) * 1000003 - 12345678901;
  const auto bits = static_cast<uint64_t>(v), u = bits >> 3;
  return static_cast<double>(u ^ bits << 40 ^ upper_half(u, 0x123456789abcdefull) ^
                             static_cast<uint64_t>(std::popcount(u)) ^
                             static_cast<uint64_t>(v % 97 + 97));
}

double converted(double value) {
  const float v = static_cast<float>(value) * 100;
  HostArray small = parse_output("h=f16:[1]"), brain = parse_output("b=bf16:[1]");
  small.set(0, v), brain.set(0, v);
  const int whole = static_cast<int>(v);
  return small.at(0) + brain.at(0) + whole + whole % 100 + (static_cast<uint32_t>(v + 300) & 255u) +
         (whole != 0);
}

Values matrices4(const Given& g) {
  const Values x = g("x");
  Values y;
  for (size_t i = 0; i < x.size(); i += 16) {
    const auto at = [&](size_t c, size_t r) { return x[i + 4 * c + r]; };
    const auto minor = [&](size_t a, size_t b, size_t c, size_t d) {  // rows 2, 3 of columns c, d
      return (at(a, 0) * at(b, 1) - at(b, 0) * at(a, 1)) *
             (at(c, 2) * at(d, 3) - at(d, 2) * at(c, 3));
    };
    const double determinant = minor(0, 1, 2, 3) - minor(0, 2, 1, 3) + minor(0, 3, 1, 2) +
                               minor(1, 2, 0, 3) - minor(1, 3, 0, 2) + minor(2, 3, 0, 1);
    for (size_t r = 0; r < 4; ++r) {
      double sum = at(r, 0) * 0;
      for (size_t c = 0; c < 4; ++c) sum += at(c, r) * static_cast<double>(c + 1);
      y.push_back(sum + at(0, r) + at(3, r));
    }
    y[y.size() - 4] += at(0, 0) * at(1, 1) - at(1, 0) * at(0, 1);
    y[y.size() - 3] += determinant, y[y.size() - 2] += at(1, 2), y[y.size() - 1] += 0.5 * at(2, 3);
  }
  return y;
}

void add_types(CaseList& cases) {
  const Size3 grid{100, 1, 1}, group{32, 1, 1};
  const auto of_x = [](double (*f)(double)) {
    return [f](const Given& g) { return each(g, "x", f); };
  };
  cases.add("bit_casts", grid, group, "x=rand:f32:[100]", "y=u32:[100]", of_x(casts));
  cases.add("packed_types", {50, 1, 1}, group, "h=rand:f16:[50,4] u=bits:u8:[50,4]", "s=i16:[50,2]",
            packed_types);
  cases.add("swizzles", {50, 1, 1}, group, "x=rand:f32:[50,4]", "y=f32:[50,4]", swizzles, 1e-6);
  cases.add("control", grid, group, "x=arange:i32:[100]", "y=i32:[100]", of_x(controlled));
  cases.add("relational", grid, group, "x=uniform:f32:[100]", "y=f32:[100]", of_x(related), 1e-5);
  cases.add("integers", grid, group, "x=-70000,-300,-7,-1,0,1,5,44,250,1023,65537:i32:[100]",
            "y=i32:[100]", of_x(whole_numbers));
  cases.add("longs", grid, group, "x=arange:i64:[100]", "y=u64:[100]", of_x(wide));
  cases.add("conversions", grid, group, "x=rand:f32:[100]", "y=f32:[100]", of_x(converted), 1e-6);
  cases.add("matrices4", {10, 1, 1}, group, "x=rand:f32:[10,4,4]", "y=f32:[10,4]", matrices4, 1e-5);
}

}  // namespace

void add_language(std::vector<SuiteCase>& list) {
  CaseList cases(list, "language.metal");
  const Size3 grid{100, 1, 1}, group{32, 1, 1};
  cases.add("places", {10, 5, 3}, {4, 2, 2}, "", "y=u32:[3,5,10]", places);
  cases.add("places16", {13, 7, 1}, {8, 4, 1}, "", "y=u16:[7,13,2]", places16);
  // The bits of 100, then 2.0, (0, 3.0, 0), 2, 0 and 0.5, (0, -1.0, 0), 0, 3.
  cases.add(
      "struct_arguments", grid, group,
      "x=rand:f32:[100] settings=100,1073741824,0,1077936128,0,2,0,1056964608,0,3212836864,0,0,3"
      ":u32:[13]",
      "y=f32:[100]", staged, 1e-5);
  cases
      .add(
          "modes", grid, group, "x=rand:f32:[100]", "y=f32:[100]",
          [](const Given& g) { return each(g, "x", [](double v) { return v * v * 3 + 7; }); }, 1e-5)
      .constants = {{0, "true"}, {1, "1.5"}, {2, "uint2(4, 6)"}};
  cases.add(
      "included", grid, group, "x=rand:f32:[100]", "y=f32:[100]",
      [](const Given& g) { return each(g, "x", [](double v) { return v > 0 ? v : v / 8; }); },
      1e-6);
  cases.add(
      "templated_half_3", grid, group, "x=rand:f16:[100]", "y=f32:[100]",
      [](const Given& g) { return each(g, "x", [](double v) { return 6 * v + 8.0625; }); }, 1e-5);
  cases.add(
      "templated_int_2", grid, group, "x=bits:i32:[100]", "y=f32:[100]",
      [](const Given& g) { return each(g, "x", [](double v) { return 6 * v + 4.0625; }); }, 1e-6);
  cases.add(
      "tagged_2", grid, group, "x=rand:f32:[100]", "y=f32:[100]",
      [](const Given& g) { return each(g, "x", [](double v) { return v + 51; }); }, 1e-6);
  add_types(cases);
}

}  // namespace mlx_kd::devices::simt
