#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/devices/simt/suite.h"

namespace mlx_kd::devices::simt {
namespace {

Values row_sums(const Given& g) {
  const Values x = g("x");
  Values sums(5, 0);
  for (size_t i = 0; i < x.size(); ++i) sums[i / (x.size() / 5)] += x[i];
  return sums;
}

Values block_max(const Given& g) {
  const Values x = g("x");
  Values y;
  for (auto i = x.begin(); i != x.end(); i += 256) y.push_back(*std::max_element(i, i + 256));
  return y;
}

Values softmax(const Given& g) {
  Values x = g("x");
  for (auto row = x.begin(); row != x.end(); row += 100) {
    double sum = 0;
    for (auto i = row; i != row + 100; ++i) sum += * i = std::exp(*i);
    for (auto i = row; i != row + 100; ++i) *i /= sum;
  }
  return x;
}

Values rmsnorm(const Given& g) {
  const Values x = g("x"), w = g("w");
  Values y(x.size());
  for (size_t row = 0; row < 3; ++row) {
    double sum = 0;
    for (size_t i = 0; i < 500; ++i) sum += x[row * 500 + i] * x[row * 500 + i];
    for (size_t i = 0; i < 500; ++i)
      y[row * 500 + i] = x[row * 500 + i] / std::sqrt(sum / 500 + 1e-5) * w[i];
  }
  return y;
}

Values block_sums(const Given& g) {
  Values x = g("x");
  for (auto i = x.begin(); i != x.end(); i += 256) std::partial_sum(i, i + 256, i);
  return x;
}

Values argmax(const Given& g) {
  const Values x = g("x");
  Values y;
  for (auto row = x.begin(); row != x.end(); row += 1000)
    y.push_back(static_cast<double>(std::max_element(row, row + 1000) - row));
  return y;
}

}  // namespace

void add_reductions(std::vector<SuiteCase>& list) {
  CaseList cases(list, "reductions.metal");
  for (const std::string type : {"f32", "f16", "bf16"})
    cases.add("row_sum_" + type, {5 * 256, 1, 1}, {256, 1, 1},
              "x=uniform:" + type + ":[5,777] n=777:u32", "y=f32:[5]", row_sums, 1e-5);
  cases.add("tree_max", {1024, 1, 1}, {256, 1, 1}, "x=rand:f32:[1024]", "y=f32:[4]", block_max);
  cases.add("softmax", {7 * 32, 1, 1}, {32, 1, 1}, "x=rand:f32:[7,100] n=100:u32", "y=f32:[7,100]",
            softmax, 1e-6);
  cases
      .add("rmsnorm", {3 * 128, 1, 1}, {128, 1, 1},
           "x=rand:f16:[3,500] w=rand:f16:[500] n=500:u32 eps=0.00001:f32", "y=f16:[3,500]",
           rmsnorm, 2e-3)
      .group_bytes = {512};
  cases.add("scan", {768, 1, 1}, {256, 1, 1}, "x=arange:u32:[768]", "y=u32:[768]", block_sums);
  cases.add("argmax", {4 * 32, 1, 1}, {32, 1, 1}, "x=rand:f32:[4,1000] n=1000:u32", "y=u32:[4]",
            argmax);
}

}  // namespace mlx_kd::devices::simt
