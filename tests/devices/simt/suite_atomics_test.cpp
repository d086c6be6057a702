#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "tests/devices/simt/suite.h"

namespace mlx_kd::devices::simt {
namespace {

Values operations(const Given& g) {
  int64_t sum = 0, most = 0, least = 0, all = -1, any = 0, odd = 0;
  for (const double value : g("x")) {
    const auto v = static_cast<int64_t>(value);
    sum += v, most = std::max(most, v), least = std::min(least, v);
    all &= v, any |= v, odd ^= v;
  }
  Values y;
  for (const int64_t v : {sum, -sum, most, all, any, odd, least})
    y.push_back(static_cast<int32_t>(v));
  y.push_back(0);
  return y;
}

Values unsigned_operations(const Given& g) {
  uint32_t sum = 0, most = 0, least = 0, bits = 0, odd = 0;
  for (const double value : g("x")) {
    const auto v = static_cast<uint32_t>(value);
    sum += v, most = std::max(most, v), bits |= 1u << (v & 31), odd ^= v * 2654435761u;
  }
  return {double(sum), double(most), double(least), double(bits), double(odd)};
}

Values best_with_place(const Given& g) {
  const Values x = g("x");
  uint64_t most = 0;
  for (size_t i = 0; i < x.size(); ++i)
    most = std::max(most, static_cast<uint64_t>(x[i]) << 32 | i);
  return {static_cast<double>(most)};
}

Values positive(const Given& g) {
  const Values x = g("x");
  Values y(x.size(), 0);
  std::copy_if(x.begin(), x.end(), y.begin(), [](double v) { return v > 0; });
  return y;
}

Values frequencies(const Given& g) {
  Values y(64, 0);
  for (const double v : g("x")) ++y[static_cast<uint32_t>(v) % 64];
  return y;
}

Values present(const Given& g) {
  Values y(64, 0);
  for (const double v : g("x")) y[static_cast<uint32_t>(v) % 64] = 1;
  return y;
}

}  // namespace

void add_atomics(std::vector<SuiteCase>& list) {
  CaseList cases(list, "atomics.metal");
  cases.add("atomic_ints", {128, 1, 1}, {128, 1, 1}, "x=bits:i32:[128]", "y=i32:[8]", operations);
  cases.add("atomic_uints", {1000, 1, 1}, {128, 1, 1}, "x=bits:u32:[1000] y=zeros:u32:[5]", "",
            unsigned_operations);
  cases.add("float_most", {1000, 1, 1}, {128, 1, 1}, "x=rand:f32:[1000] most=-9:f32:[1]", "",
            [](const Given& g) {
              const Values x = g("x");
              return Values{*std::max_element(x.begin(), x.end())};
            });
  cases.add("ulong_most", {1000, 1, 1}, {128, 1, 1}, "x=bits:u32:[1000] most=zeros:u64:[1]", "",
            best_with_place);
  cases.add("compact", {128, 1, 1}, {128, 1, 1}, "x=rand:f32:[128] used=zeros:u32:[1]",
            "y=f32:[128]", positive);
  cases.add("last_group_sum", {1024, 1, 1}, {128, 1, 1},
            "x=arange:u32:[1024] partial=zeros:u32:[8] done=zeros:u32:[1]", "y=u32:[1]",
            [](const Given&) { return Values{1023 * 512}; });
  cases.add("hash_count", {128, 1, 1}, {128, 1, 1}, "x=bits:u32:[512] counts=zeros:u32:[64]", "",
            frequencies);
  cases.add("atomic_flags", {100, 1, 1}, {100, 1, 1}, "x=bits:u32:[100]", "y=u8:[64]", present);
}

}  // namespace mlx_kd::devices::simt
