#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/devices/simt/suite.h"

namespace mlx_kd::devices::simt {
namespace {

// `f` of each row of x.
Values rows_of(const Given& g, size_t n, const std::function<Values(const Values&)>& f) {
  const Values x = g("x");
  Values y;
  for (size_t i = 0; i < x.size(); i += n) {
    const auto row = x.begin() + static_cast<long>(i);
    const Values made = f(Values(row, row + static_cast<long>(n)));
    y.insert(y.end(), made.begin(), made.end());
  }
  return y;
}

double mean_of(const Values& row) {
  return std::accumulate(row.begin(), row.end(), 0.0) / static_cast<double>(row.size());
}

double variance_of(const Values& row) {
  const double mean = mean_of(row);
  double sum = 0;
  for (const double v : row) sum += (v - mean) * (v - mean);
  return sum / static_cast<double>(row.size());
}

Values layernorm(const Given& g) {
  const Values w = g("w"), b = g("b");
  return rows_of(g, 300, [&](Values row) {
    const double mean = mean_of(row), scale = 1 / std::sqrt(variance_of(row) + 1e-5);
    for (size_t i = 0; i < row.size(); ++i) row[i] = (row[i] - mean) * scale * w[i] + b[i];
    return row;
  });
}

Values logsumexp(const Given& g) {
  return rows_of(g, 300, [](const Values& row) {
    double sum = 0;
    for (const double v : row) sum += std::exp(v);
    return Values{std::log(sum)};
  });
}

Values softmax_150(const Given& g) {
  return rows_of(g, 150, [](Values row) {
    double sum = 0;
    for (double& v : row) sum += v = std::exp(v);
    for (double& v : row) v /= sum;
    return row;
  });
}

Values rmsnorm_residual(const Given& g) {
  Values x = g("x");
  const Values r = g("r"), w = g("w");
  for (size_t i = 0; i < x.size(); ++i) x[i] += r[i];
  return rows_of([&](const std::string&) { return x; }, 300,
                 [&](Values row) {
                   double sum = 0;
                   for (const double v : row) sum += v * v;
                   for (size_t i = 0; i < row.size(); ++i)
                     row[i] *= w[i] / std::sqrt(sum / 300 + 1e-6);
                   return row;
                 });
}

Values rope(const Given& g) {
  const Values x = g("x");
  Values y(x.size());
  for (size_t row = 0; row < 9; ++row)
    for (size_t p = 0; p < 32; ++p) {
      const double angle =
          (static_cast<double>(row) + 3) * std::pow(10000.0, -static_cast<double>(p) / 32);
      const double a = x[row * 64 + p], b = x[row * 64 + p + 32];
      y[row * 64 + p] = a * std::cos(angle) - b * std::sin(angle);
      y[row * 64 + p + 32] = a * std::sin(angle) + b * std::cos(angle);
    }
  return y;
}

Values glu(const Given& g) {
  Values y = g("gate"), up = g("up");
  for (size_t i = 0; i < y.size(); ++i) y[i] = y[i] / (1 + std::exp(-y[i])) * up[i];
  return y;
}

Values column_sums(const Given& g) {
  const Values x = g("x");
  Values y(40, 0);
  for (size_t i = 0; i < x.size(); ++i) y[i % 40] += x[i];
  return y;
}

Values segmented(const Given& g) {
  const Values heads = g("heads");
  Values y = g("x");
  for (size_t i = 1; i < y.size(); ++i)
    if (heads[i] == 0) y[i] += y[i - 1];
  return y;
}

Values cosine(const Given& g) {
  const Values a = g("a"), b = g("b");
  Values y;
  for (size_t row = 0; row < 3; ++row) {
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = row * 200; i < row * 200 + 200; ++i)
      ab += a[i] * b[i], aa += a[i] * a[i], bb += b[i] * b[i];
    y.push_back(ab / std::sqrt(aa * bb));
  }
  return y;
}

Values smallest_and_largest(const Given& g) {
  return rows_of(g, 500, [](const Values& row) {
    const auto ends = std::minmax_element(row.begin(), row.end());
    return Values{*ends.first, *ends.second};
  });
}

Values two_largest(const Given& g) {
  return rows_of(g, 500, [](Values row) {
    std::sort(row.rbegin(), row.rend());
    return Values{row[0], row[1]};
  });
}

Values counts(const Given& g) {
  return rows_of(g, 300, [](const Values& row) {
    return Values{static_cast<double>(
        std::count_if(row.begin(), row.end(), [](double v) { return v > 0.5; }))};
  });
}

Values products(const Given& g) {
  return rows_of(g, 300, [](Values row) {
    for (size_t i = 1; i < row.size(); ++i) row[i] *= row[i - 1];
    return row;
  });
}

}  // namespace

void add_norms(std::vector<SuiteCase>& list) {
  CaseList cases(list, "norms.metal");
  const std::string x = "x=rand:f32:[4,300] n=300:u32";
  const Size3 grid{4 * 128, 1, 1}, group{128, 1, 1};
  cases.add("layernorm", grid, group, x + " w=rand:f32:[300] b=rand:f32:[300]", "y=f32:[4,300]",
            layernorm, 1e-5);
  cases.add("logsumexp", grid, group, x, "y=f32:[4]", logsumexp, 1e-6);
  cases.add("softmax_online", {3 * 64, 1, 1}, {64, 1, 1}, "x=rand:f16:[3,150] n=150:u32",
            "y=f16:[3,150]", softmax_150, 1e-3);
  cases.add(
      "variance", grid, group, x, "y=f32:[4]",
      [](const Given& g) {
        return rows_of(g, 300, [](const Values& row) { return Values{variance_of(row)}; });
      },
      1e-5);
  cases.add("rmsnorm_residual", grid, group, x + " r=rand:f32:[4,300] w=rand:f32:[300]",
            "y=f32:[4,300] sum_out=f32:[4,300]", rmsnorm_residual, 1e-5);
  cases.add("rope", {40, 9, 1}, {8, 4, 1},
            "x=rand:f32:[9,64] dims=64:u32 base=10000:f32 offset=3:i32", "y=f32:[9,64]", rope,
            1e-5);
  cases.add("glu_bf16", {400, 1, 1}, {128, 1, 1}, "gate=rand:bf16:[400] up=rand:bf16:[400]",
            "y=bf16:[400]", glu, 8e-3);
  cases.add("glu_f16", {400, 1, 1}, {128, 1, 1}, "gate=rand:f16:[400] up=rand:f16:[400]",
            "y=f16:[400]", glu, 1e-3);
  cases.add("column_sums", {48, 16, 1}, {16, 16, 1}, "x=rand:f32:[53,40] size=40,53:u32:[2]",
            "y=f32:[40]", column_sums, 1e-5);
  cases.add("min_max", {3 * 64, 1, 1}, {64, 1, 1}, "x=rand:f32:[3,500] n=500:u32", "y=f32:[3,2]",
            smallest_and_largest);
  cases.add("segmented_scan", {128, 1, 1}, {128, 1, 1},
            "x=rand:f32:[128] heads=1,0,0,0,0,0,0:u8:[128]", "y=f32:[128]", segmented, 1e-5);
  cases.add("cosine", {3 * 128, 1, 1}, {128, 1, 1},
            "a=rand:f32:[3,200] b=rand:f32:[3,200] n=200:u32", "y=f32:[3]", cosine, 1e-5);
  cases.add("top2", {3 * 64, 1, 1}, {64, 1, 1}, "x=rand:f32:[3,500] n=500:u32", "y=f32:[3,2]",
            two_largest);
  cases.add("count_above", grid, group, x + " limit=0.5:f32", "y=u32:[4]", counts);
  cases.add("running_product", grid, group, "x=1.01:f32:[4,300] n=300:u32", "y=f32:[4,300]",
            products, 1e-4);
}

}  // namespace mlx_kd::devices::simt
