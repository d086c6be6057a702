#include <algorithm>
#include <cmath>
#include <complex>
#include <numeric>

#include "tests/devices/simt/suite.h"

namespace mlx_kd::devices::simt {
namespace {

Values transposed_tiles(const Given& g) {
  const Values x = g("x");
  Values y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i % 64 * 96 + i / 64] = x[i];
  return y;
}

Values permuted(const Given& g) {
  const Values x = g("x");
  Values y(x.size());
  const auto key = [](size_t t) { return (7 * t + 3) % 64; };
  for (size_t i = 0; i < x.size(); ++i) y[i] = x[i / 64 * 64 + key(key(i % 64))];
  return y;
}

Values reversed(const Given& g) {
  Values x = g("x");
  for (auto i = x.begin(); i != x.end(); i += 256) std::reverse(i, i + 256);
  return x;
}

Values blurred(const Given& g) {
  const Values x = g("x");
  Values y(x.size(), 0);
  for (int r = 0; r < 23; ++r)
    for (int c = 0; c < 40; ++c)
      for (int k = 0; k < 9; ++k)
        y[r * 40 + c] +=
            x[std::clamp(r + k / 3 - 1, 0, 22) * 40 + std::clamp(c + k % 3 - 1, 0, 39)] / 9;
  return y;
}

Values diffused(const Given& g) {
  Values x = g("x");
  for (int step = 0; step < 6; ++step) {
    const Values now = x;
    for (size_t i = 0; i < 64; ++i)
      x[i] = 0.25 * now[(i + 63) % 64] + 0.5 * now[i] + 0.25 * now[(i + 1) % 64];
  }
  return x;
}

Values sorted(const Given& g) {
  Values x = g("x");
  std::sort(x.begin(), x.end());
  return x;
}

Values order(const Given& g) {
  const Values x = g("x");
  std::vector<size_t> places(x.size());
  std::iota(places.begin(), places.end(), size_t{0});
  std::stable_sort(places.begin(), places.end(), [&](size_t a, size_t b) { return x[a] < x[b]; });
  return Values(places.begin(), places.end());
}

Values life(const Given& g) {
  Values x = each(g, "x", [](double v) { return v; });
  for (int generation = 0; generation < 3; ++generation) {
    const Values now = x;
    for (size_t i = 0; i < 256; ++i) {
      double around = -now[i];
      for (size_t k = 0; k < 9; ++k)
        around += now[(i / 32 + 7 + k / 3) % 8 * 32 + (i % 32 + 31 + k % 3) % 32];
      x[i] = around == 3 || (around == 2 && now[i] == 1);
    }
  }
  return x;
}

Values cholesky(const Given& g) {
  const Values a = g("a");
  Values l(256, 0);
  for (size_t r = 0; r < 16; ++r)
    for (size_t c = 0; c <= r; ++c) {
      double sum = a[r * 16 + c];
      for (size_t k = 0; k < c; ++k) sum -= l[r * 16 + k] * l[c * 16 + k];
      l[r * 16 + c] = r == c ? std::sqrt(sum) : sum / l[c * 16 + c];
    }
  return l;
}

Values fourier(const Given& g) {
  const Values x = g("x");
  Values y;
  for (int f = 0; f < 64; ++f) {
    std::complex<double> sum = 0;
    for (int i = 0; i < 64; ++i)
      sum += std::complex<double>(x[2 * i], x[2 * i + 1]) * std::polar(1.0, -2 * M_PI * f * i / 64);
    y.push_back(sum.real()), y.push_back(sum.imag());
  }
  return y;
}

Values shortest(const Given& g) {
  Values d = g("x");
  for (size_t k = 0; k < 16; ++k)
    for (size_t i = 0; i < 256; ++i) d[i] = std::min(d[i], d[i / 16 * 16 + k] + d[k * 16 + i % 16]);
  return d;
}

Values running_max(const Given& g) {
  Values x = g("x");
  for (size_t i = 1; i < x.size(); ++i)
    if (i % 128 != 0) x[i] = std::max(x[i], x[i - 1]);
  return x;
}

Values exclusive_sums(const Given& g) {
  const Values x = g("x");
  Values y(x.size(), 0);
  for (size_t i = 1; i < x.size(); ++i)
    if (i % 256 != 0) y[i] = y[i - 1] + x[i - 1];
  return y;
}

Values merged(const Given& g) {
  Values a = g("a"), b = g("b");
  a.insert(a.end(), b.begin(), b.end());
  std::sort(a.begin(), a.end());
  return a;
}

Values common(const Given& g) {
  const Values a = g("a"), b = g("b");
  std::vector<Values> best(33, Values(33, 0));
  Values y;
  for (size_t r = 1; r <= 32; ++r) {
    for (size_t c = 1; c <= 32; ++c)
      best[r][c] =
          a[r - 1] == b[c - 1] ? best[r - 1][c - 1] + 1 : std::max(best[r - 1][c], best[r][c - 1]);
    y.push_back(best[r][32]);
  }
  return y;
}

}  // namespace

void add_groups(std::vector<SuiteCase>& list) {
  CaseList cases(list, "groups.metal");
  cases.add("transpose_tile", {64, 24, 1}, {32, 8, 1}, "x=rand:f32:[96,64] size=64,96:u32:[2]",
            "y=f32:[64,96]", transposed_tiles);
  cases.add("two_groups", {192, 1, 1}, {64, 1, 1}, "x=rand:f32:[192]", "y=f32:[192]", permuted)
      .group_bytes = {256, 256};
  cases.add("reverse_vectors", {128, 1, 1}, {64, 1, 1}, "x=rand:f32:[128,4]", "y=f32:[128,4]",
            reversed);
  cases.add("blur", {48, 32, 1}, {16, 16, 1}, "x=rand:f32:[23,40] size=40,23:i32:[2]",
            "y=f32:[23,40]", blurred, 1e-6);
  cases.add("heat", {64, 1, 1}, {64, 1, 1}, "x=rand:f32:[64]", "y=f32:[64]", diffused, 1e-6);
  cases.add("odd_even_sort", {32, 1, 1}, {32, 1, 1}, "x=bits:i32:[64]", "y=i32:[64]", sorted);
  cases.add("bitonic_pairs", {128, 1, 1}, {128, 1, 1}, "x=rand:f32:[128]", "order=u32:[128]",
            order);
  cases.add("radix_sort", {256, 1, 1}, {256, 1, 1},
            "x=201,7,99,255,0,13,180,64,31,90,129:u32:[256]", "y=u32:[256]", sorted);
  cases.add("life", {32, 8, 1}, {32, 8, 1}, "x=0,1,1,0,1,0,0,1,1,0,0:u8:[8,32]", "y=u8:[8,32]",
            life);
  cases.add("cholesky", {16, 1, 1}, {16, 1, 1},
            "a=9,1,0.5,0.2,0.1,0.1,0.3,0.4,0.6,0.6,0.4,0.3,0.1,0.1,0.2,0.5,1:f32:[16,16]",
            "l=f32:[16,16]", cholesky, 1e-5);
  cases.add("fft64", {32, 1, 1}, {32, 1, 1}, "x=rand:f32:[64,2]", "y=f32:[64,2]", fourier, 1e-5);
  cases.add("floyd", {16, 16, 1}, {16, 16, 1}, "x=3,9,27,4,12,5,15,8,24,11:f32:[16,16]",
            "y=f32:[16,16]", shortest);
  cases.add("scan_max", {256, 1, 1}, {128, 1, 1}, "x=rand:f32:[256]", "y=f32:[256]", running_max);
  cases.add("exclusive_scan", {256, 1, 1}, {128, 1, 1}, "x=uniform:f32:[512]", "y=f32:[512]",
            exclusive_sums, 1e-5);
  cases.add("merge_ranks", {100, 1, 1}, {100, 1, 1}, "a=arange:f32:[100] b=arange:f32:[100]",
            "y=f32:[200]", merged);
  cases.add("lcs", {32, 1, 1}, {32, 1, 1}, "a=1,2,3,1,4,2,5:u8:[32] b=2,1,4,3,2,1:u8:[32]",
            "y=u32:[32]", common);
}

}  // namespace mlx_kd::devices::simt
