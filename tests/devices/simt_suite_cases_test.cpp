// The cases of the suite: sizes, inputs, and the same computation in plain C++.
#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <numeric>

#include "tests/devices/simt_suite.h"

namespace mlx_kd::devices::simt {
namespace {

Values each(const Given& given, const std::string& name, const std::function<double(double)>& f) {
  Values values = given(name);
  for (double& value : values) value = f(value);
  return values;
}

Values row_sums(const Given& given, size_t rows) {
  const Values x = given("x");
  Values sums(rows, 0);
  for (size_t i = 0; i < x.size(); ++i) sums[i / (x.size() / rows)] += x[i];
  return sums;
}

Values product(const Given& given, size_t n) {
  const Values a = given("a"), b = given("b");
  Values c(n * n, 0);
  for (size_t i = 0; i < n; ++i)
    for (size_t k = 0; k < n; ++k)
      for (size_t j = 0; j < n; ++j) c[i * n + j] += a[i * n + k] * b[k * n + j];
  return c;
}

void add_elementwise(std::vector<SuiteCase>& list) {
  const std::string file = "elementwise.metal";
  list.push_back({file,
                  "axpy",
                  {1000, 1, 1},
                  {256, 1, 1},
                  {"x=rand:f32:[1000]", "a=2.5:f32", "y=arange:f32:[1000]"},
                  {},
                  "y",
                  [](const Given& g) {
                    Values y = g("y"), x = g("x");
                    for (size_t i = 0; i < y.size(); ++i) y[i] += 2.5 * x[i];
                    return y;
                  },
                  1e-6});
  list.push_back(
      {file,
       "silu_f16",
       {333, 1, 1},
       {64, 1, 1},
       {"x=rand:f16:[333]"},
       {"y=f16:[333]"},
       "y",
       [](const Given& g) { return each(g, "x", [](double v) { return v / (1 + std::exp(-v)); }); },
       1e-3});
  list.push_back({file,
                  "swiglu",
                  {500, 1, 1},
                  {128, 1, 1},
                  {"gate=rand:f32:[500]", "up=rand:f32:[500]"},
                  {"y=f32:[500]"},
                  "y",
                  [](const Given& g) {
                    Values y = g("gate"), up = g("up");
                    for (size_t i = 0; i < y.size(); ++i)
                      y[i] = y[i] / (1 + std::exp(-y[i])) * up[i];
                    return y;
                  },
                  1e-6});
  list.push_back(
      {file,
       "leaky",
       {256, 1, 1},
       {64, 1, 1},
       {"x=rand:f16:[256]"},
       {"y=f16:[256]"},
       "y",
       [](const Given& g) { return each(g, "x", [](double v) { return v > 0 ? v : v / 8; }); },
       1e-7});
  list.push_back({file,
                  "bf16_scale",
                  {256, 1, 1},
                  {64, 1, 1},
                  {"x=rand:bf16:[256]"},
                  {"y=bf16:[256]"},
                  "y",
                  [](const Given& g) { return each(g, "x", [](double v) { return 3 * v; }); },
                  8e-3});
  list.push_back({file,
                  "transpose2",
                  {40, 37, 1},
                  {8, 16, 1},
                  {"x=rand:f32:[37,37]", "shape=37:u32:[2]"},
                  {"y=f32:[37,37]"},
                  "y",
                  [](const Given& g) {
                    const Values x = g("x");
                    Values y(x.size());
                    for (size_t i = 0; i < x.size(); ++i) y[i % 37 * 37 + i / 37] = x[i];
                    return y;
                  },
                  0});
  list.push_back({file,
                  "vector4",
                  {64, 1, 1},
                  {32, 1, 1},
                  {"x=rand:f32:[64,4]"},
                  {"y=f32:[64,4]"},
                  "y",
                  [](const Given& g) {
                    const Values x = g("x");
                    Values y(x.size());
                    for (size_t i = 0; i < x.size(); i += 4) {
                      const double v[4] = {x[i + 1], x[i], x[i + 2] + 1, x[i + 3] + 2};
                      for (int k = 0; k < 4; ++k)
                        y[i + k] = 2 * v[3 - k] + v[0] + v[1] + v[2] + v[3];
                    }
                    return y;
                  },
                  1e-5});
  list.push_back({file,
                  "packed3",
                  {20, 1, 1},
                  {32, 1, 1},
                  {"x=rand:f32:[20,3]"},
                  {"y=f32:[20,3]"},
                  "y",
                  [](const Given& g) {
                    Values y = g("x");
                    for (size_t i = 0; i < y.size(); i += 3) {
                      const double x0 = y[i];
                      y[i] = y[i + 1], y[i + 1] = -x0, y[i + 2] = 0;
                    }
                    return y;
                  },
                  1e-6});
  list.push_back({file,
                  "matvec3",
                  {20, 1, 1},
                  {32, 1, 1},
                  {"x=rand:f32:[20,3]"},
                  {"y=f32:[20,3]"},
                  "y",
                  [](const Given& g) {
                    const double m[3][3] = {{1, 4, 7}, {2, 5, 8}, {3, 6, 10}};  // rows
                    const Values x = g("x");
                    Values y(x.size(), 0);
                    for (size_t i = 0; i < x.size(); i += 3)
                      for (int r = 0; r < 3; ++r) {
                        double v = 0;
                        for (int c = 0; c < 3; ++c) v += m[r][c] * x[i + c];
                        for (int c = 0; c < 3; ++c) y[i + c] += m[r][c] * v;
                      }
                    return y;
                  },
                  1e-5});
  list.push_back({file,
                  "stencil",
                  {300, 1, 1},
                  {64, 1, 1},
                  {"x=rand:f32:[300]", "n=300:u32"},
                  {"y=f32:[300]"},
                  "y",
                  [](const Given& g) {
                    const Values x = g("x");
                    Values y(x.size());
                    for (size_t i = 0; i < x.size(); ++i)
                      y[i] = 0.25 * x[i ? i - 1 : 0] + 0.5 * x[i] +
                             0.25 * x[std::min(i + 1, x.size() - 1)];
                    return y;
                  },
                  1e-6});
  list.push_back({file,
                  "power",
                  {64, 1, 1},
                  {64, 1, 1},
                  {"x=rand:f32:[64]"},
                  {"y=f32:[64]"},
                  "y",
                  [](const Given& g) { return each(g, "x", [](double v) { return v * v * v; }); },
                  1e-5});
  list.back().constants = {{0, "3"}};
}

SuiteCase row_sum(const std::string& type, double tolerance) {
  return {"reductions.metal",
          "row_sum_" + type,
          {5 * 256, 1, 1},
          {256, 1, 1},
          {"x=uniform:" + type + ":[5,777]", "n=777:u32"},
          {"y=f32:[5]"},
          "y",
          [](const Given& g) { return row_sums(g, 5); },
          tolerance};
}

void add_reductions(std::vector<SuiteCase>& list) {
  const std::string file = "reductions.metal";
  for (const char* type : {"f32", "f16", "bf16"}) list.push_back(row_sum(type, 1e-5));
  list.push_back({file,
                  "tree_max",
                  {1024, 1, 1},
                  {256, 1, 1},
                  {"x=rand:f32:[1024]"},
                  {"y=f32:[4]"},
                  "y",
                  [](const Given& g) {
                    const Values x = g("x");
                    Values y;
                    for (auto i = x.begin(); i != x.end(); i += 256)
                      y.push_back(*std::max_element(i, i + 256));
                    return y;
                  },
                  0});
  list.push_back({file,
                  "softmax",
                  {7 * 32, 1, 1},
                  {32, 1, 1},
                  {"x=rand:f32:[7,100]", "n=100:u32"},
                  {"y=f32:[7,100]"},
                  "y",
                  [](const Given& g) {
                    Values x = g("x");
                    for (auto row = x.begin(); row != x.end(); row += 100) {
                      double sum = 0;
                      for (auto i = row; i != row + 100; ++i) sum += * i = std::exp(*i);
                      for (auto i = row; i != row + 100; ++i) *i /= sum;
                    }
                    return x;
                  },
                  1e-6});
  list.push_back({file,
                  "rmsnorm",
                  {3 * 128, 1, 1},
                  {128, 1, 1},
                  {"x=rand:f16:[3,500]", "w=rand:f16:[500]", "n=500:u32", "eps=0.00001:f32"},
                  {"y=f16:[3,500]"},
                  "y",
                  [](const Given& g) {
                    const Values x = g("x"), w = g("w");
                    Values y(x.size());
                    for (size_t row = 0; row < 3; ++row) {
                      double sum = 0;
                      for (size_t i = 0; i < 500; ++i) sum += x[row * 500 + i] * x[row * 500 + i];
                      for (size_t i = 0; i < 500; ++i)
                        y[row * 500 + i] = x[row * 500 + i] / std::sqrt(sum / 500 + 1e-5) * w[i];
                    }
                    return y;
                  },
                  2e-3,
                  {512}});
  list.push_back({file,
                  "scan",
                  {768, 1, 1},
                  {256, 1, 1},
                  {"x=arange:u32:[768]"},
                  {"y=u32:[768]"},
                  "y",
                  [](const Given& g) {
                    Values x = g("x");
                    for (auto i = x.begin(); i != x.end(); i += 256)
                      std::partial_sum(i, i + 256, i);
                    return x;
                  },
                  0});
  list.push_back({file,
                  "argmax",
                  {4 * 32, 1, 1},
                  {32, 1, 1},
                  {"x=rand:f32:[4,1000]", "n=1000:u32"},
                  {"y=u32:[4]"},
                  "y",
                  [](const Given& g) {
                    const Values x = g("x");
                    Values y;
                    for (auto row = x.begin(); row != x.end(); row += 1000)
                      y.push_back(static_cast<double>(std::max_element(row, row + 1000) - row));
                    return y;
                  },
                  0});
}

Values matvec_q4(const Given& g) {
  const Values w = g("w"), scales = g("scales"), biases = g("biases"), x = g("x");
  Values y(8, 0);
  for (size_t row = 0; row < 8; ++row)
    for (size_t i = 0; i < 256; ++i) {
      const auto word = static_cast<uint32_t>(w[row * 32 + i / 8]);
      const double q = word >> (4 * (i % 8)) & 15;
      y[row] += (q * scales[row * 8 + i / 32] + biases[row * 8 + i / 32]) * x[i];
    }
  return y;
}

void add_matrices(std::vector<SuiteCase>& list) {
  const std::string file = "matrices.metal";
  for (const char* type : {"f32", "f16"})
    list.push_back({file,
                    std::string("simd_gemm_") + type,
                    {3 * 32, 3, 1},
                    {32, 1, 1},
                    {std::string("a=rand:") + type + ":[24,24]",
                     std::string("b=rand:") + type + ":[24,24]", "n=24:u32"},
                    {"c=f32:[24,24]"},
                    "c",
                    [](const Given& g) { return product(g, 24); },
                    1e-4});
  list.push_back({file,
                  "tiled_gemm",
                  {48, 48, 1},
                  {16, 16, 1},
                  {"a=rand:f32:[48,48]", "b=rand:f32:[48,48]", "n=48:u32"},
                  {"c=f32:[48,48]"},
                  "c",
                  [](const Given& g) { return product(g, 48); },
                  1e-4});
  list.push_back({file,
                  "matvec_q4",
                  {8 * 32, 1, 1},
                  {32, 1, 1},
                  {"w=2596069104:u32:[8,32]", "scales=uniform:f16:[8,8]", "biases=rand:f16:[8,8]",
                   "x=rand:f32:[256]", "n=256:u32"},
                  {"y=f32:[8]"},
                  "y",
                  matvec_q4,
                  1e-4});
}

Values votes(const Given& g) {
  const Values x = g("x");
  Values y(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    int odd = 0;
    for (size_t k = i / 32 * 32; k < i / 32 * 32 + 32; ++k) odd += static_cast<uint32_t>(x[k]) & 1;
    double quad = 0;
    for (size_t k = i / 4 * 4; k < i / 4 * 4 + 4; ++k) quad += x[k];
    y[i] = odd + (odd == 32 ? 1000 : 0) + (odd ? 100 : 0) + quad * 10000;
  }
  return y;
}

Values shuffles(const Given& g) {
  const Values x = g("x");
  Values y(x.size());
  for (size_t first = 0; first < x.size(); first += 32) {
    int before = 0, all = 0;
    double least = INFINITY;
    for (size_t l = 0; l < 32; ++l)
      all ^= static_cast<int>(x[first + l]), least = std::min(least, x[first + l]);
    for (size_t l = 0; l < 32; ++l) {
      const auto at = [&](size_t lane) { return x[first + lane]; };
      y[first + l] = at(l ^ 1) + 2 * at(3) + 3 * at((l + 5) & 31) + (l < 4 ? 7 : at(l - 4)) +
                     at(l ^ 2) + at(0) + before + all + least;
      before += static_cast<int>(at(l));
    }
  }
  return y;
}

double all_bits(double value) {
  const auto v = static_cast<uint32_t>(value);
  uint32_t reversed = 0;
  for (int i = 0; i < 32; ++i) reversed |= (v >> i & 1u) << (31 - i);
  const auto high = static_cast<uint32_t>(uint64_t{v} * 0x10001u >> 32);
  return static_cast<uint32_t>(std::popcount(v)) + static_cast<uint32_t>(std::countl_zero(v)) * 64 +
         static_cast<uint32_t>(std::countr_zero(v)) * 4096 + (reversed ^ std::rotl(v, 5)) + high +
         (v > 77 ? v - 77 : 77 - v) + ((v & ~(15u << 3)) | 5u << 3);
}

void add_exchange(std::vector<SuiteCase>& list) {
  const std::string file = "exchange.metal";
  list.push_back({file,
                  "histogram",
                  {4096, 1, 1},
                  {256, 1, 1},
                  {"x=arange:u8:[4096]", "bins=zeros:u32:[256]"},
                  {},
                  "bins",
                  [](const Given&) { return Values(256, 16); },
                  0});
  list.push_back({file,
                  "float_add",
                  {1000, 1, 1},
                  {128, 1, 1},
                  {"x=uniform:f32:[1000]", "sum=zeros:f32:[1]"},
                  {},
                  "sum",
                  [](const Given& g) {
                    const Values x = g("x");
                    return Values{std::accumulate(x.begin(), x.end(), 0.0)};
                  },
                  1e-5});
  list.push_back({file,
                  "exchange_max",
                  {1000, 1, 1},
                  {128, 1, 1},
                  {"x=uniform:f32:[1000]", "most=zeros:u32:[1]"},
                  {},
                  "most",
                  [](const Given& g) {
                    const Values x = g("x");
                    return Values{double(
                        std::bit_cast<uint32_t>(float(*std::max_element(x.begin(), x.end()))))};
                  },
                  0});
  list.push_back({file,
                  "bitonic",
                  {512, 1, 1},
                  {256, 1, 1},
                  {"x=rand:i32:[512]"},
                  {"y=i32:[512]"},
                  "y",
                  [](const Given& g) {
                    Values x = g("x");
                    for (auto i = x.begin(); i != x.end(); i += 256) std::sort(i, i + 256);
                    return x;
                  },
                  0});
  list.push_back({file,
                  "votes",
                  {96, 1, 1},
                  {96, 1, 1},
                  {"x=arange:u32:[96]"},
                  {"y=u32:[96]"},
                  "y",
                  votes,
                  0});
  list.push_back({file,
                  "shuffles",
                  {128, 1, 1},
                  {64, 1, 1},
                  {"x=arange:i32:[128]"},
                  {"y=i32:[128]"},
                  "y",
                  shuffles,
                  0});
  list.push_back({file,
                  "bits",
                  {200, 1, 1},
                  {64, 1, 1},
                  {"x=arange:u32:[200]"},
                  {"y=u32:[200]"},
                  "y",
                  [](const Given& g) { return each(g, "x", all_bits); },
                  0});
  list.push_back({file,
                  "diverged",
                  {64, 1, 1},
                  {64, 1, 1},
                  {"x=arange:f32:[64]"},
                  {"y=f32:[64]"},
                  "y",
                  [](const Given&) {
                    Values y(64);
                    for (size_t i = 0; i < 64; ++i)
                      y[i] = i % 32 < 16 ? (i < 32 ? 120 : 632) : (i < 32 ? 31 : 63);
                    return y;
                  },
                  0,
                  {},
                  {},
                  true});
}

}  // namespace

const std::vector<SuiteCase>& suite() {
  static const std::vector<SuiteCase> list = [] {
    std::vector<SuiteCase> made;
    add_elementwise(made);
    add_reductions(made);
    add_matrices(made);
    add_exchange(made);
    return made;
  }();
  return list;
}

}  // namespace mlx_kd::devices::simt
