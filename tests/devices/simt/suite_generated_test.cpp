#include "tests/devices/simt/suite.h"

namespace mlx_kd::devices::simt {
namespace {

Values most(const Given& g) {
  const Values x = g("x");
  size_t best = 0;
  for (size_t i = 1; i < x.size(); ++i)
    if (x[i] > x[best]) best = i;
  return {static_cast<double>(best) + 3 * x[0] + 1};
}

Values by_reference(const Given&) {
  Values y;
  for (int t = 0; t < 32; ++t) y.push_back(31 - t + 2 * t + 32);
  return y;
}

// Words of a block: d and m as halves, then four bytes.
Values blocks(const Given& g) {
  const Values bytes = g("bytes");
  const double scale = g("scale")[0];
  Values y;
  for (size_t i = 0; i < bytes.size() / 4; ++i)  // (they are given as halves)
    y.push_back(scale * (3 * bytes[4 * i] + bytes[4 * i + 1]) + 3.0 * static_cast<double>(i) + 1);
  return y;
}

Values words(const Given& g) {
  Values y = g("requires");
  const double more[4] = {1 + 5, 2 + 3, 7, 0};
  for (size_t i = 0; i < y.size(); ++i) y[i] += more[i % 4];
  return y;
}

Values packs(const Given&) {
  const double unorm = 128 + 255.0 * 65536;             // 127.5 rounds to even
  const double snorm = 64 + 224.0 * 256 + 127 * 65536;  // -0.25 is -32
  const double halves = 16384 + 57344.0 * 65536;        // -8191.75 is -8192
  const double ten = 512 + 1023.0 * 1048576;
  const double srgb = 188 + 255.0 * 65536;
  return {unorm,
          snorm,
          halves,
          unorm,
          ten,
          srgb,
          16.0 * 2048 + 63 * 32,
          100 + 10,
          0xbc + 0xf0 + 0x23 + 2,
          4};
}

Values rounded(const Given& g) {
  const Values a = g("a"), b = g("b"), c = g("c");
  Values y;
  for (size_t i = 0; i < a.size(); ++i) {
    const volatile float product = static_cast<float>(a[i]) * static_cast<float>(b[i]);
    y.push_back(product + static_cast<float>(c[i]));
  }
  return y;
}

}  // namespace

void add_generated(std::vector<SuiteCase>& list) {
  CaseList cases(list, "generated.metal");
  cases.add("specialised_half", {4, 1, 1}, {4, 1, 1}, "x=1,2.5,3,4:f32:[4]", "y=f32:[4]",
            [](const Given& g) { return each(g, "x", [](double v) { return v + 8; }); });
  cases.add(
      "specialised_byte", {4, 1, 1}, {4, 1, 1}, "x=1,2.25,3,4:f32:[4]", "y=f32:[4]",
      [](const Given& g) { return each(g, "x", [](double v) { return double(int(v)) + 8; }); });
  cases.add("widths", {4, 1, 1}, {4, 1, 1}, "", "y=i32:[4]", [](const Given&) {
    return Values{1, 2, 4, 11};
  });
  cases.add("checked", {8, 1, 1}, {4, 1, 1}, "x=arange:f32:[8] n=5:u32", "y=f32:[8]",
            [](const Given&) { return Values{1, 2, 3, 4, 5, 0, 0, 0}; });
  cases.add("by_reference", {32, 1, 1}, {32, 1, 1}, "", "y=f32:[32]", by_reference).group_bytes = {
      128, 132, 4};
  cases.add("most", {32, 1, 1}, {32, 1, 1}, "x=rand:f32:[32]", "y=f32:[1]", most, 1e-6);
  cases.add("blocks", {4, 1, 1}, {4, 1, 1}, "bytes=1,2,3,0.5:f16:[16] scale=2:f32", "y=f32:[4]",
            blocks);
  cases.add("words", {4, 1, 1}, {4, 1, 1}, "requires=arange:f32:[4,4]", "concept_=f32:[4,4]",
            words);
  cases.add("packs", {1, 1, 1}, {1, 1, 1}, "", "y=u32:[10]", packs);
  cases.add("rounded", {512, 1, 1}, {64, 1, 1},
            "a=rand:f32:[512] b=rand:f32:[512] c=rand:f32:[512]", "y=f32:[512]", rounded);
}

}  // namespace mlx_kd::devices::simt
