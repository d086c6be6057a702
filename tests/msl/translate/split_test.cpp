// Which kernels run as loops between their barriers, and which may not.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "mlx_kd/msl/parse/parser.h"
#include "mlx_kd/msl/translate/translate.h"

namespace mlx_kd::msl {
namespace {

// The body of a kernel with one barrier; `more` stands in front of the kernel.
Kernel kernel_of(const std::string& body, const std::string& more) {
  const std::string text =
      "#include <metal_stdlib>\nusing namespace metal;\n" + more +
      "kernel void k(device const float* x [[buffer(0)]], device float* y [[buffer(1)]],\n"
      "              constant uint& n [[buffer(2)]], uint i [[thread_position_in_grid]],\n"
      "              uint t [[thread_position_in_threadgroup]]) {\n  threadgroup float s[256];\n" +
      body + "\n}\n";
  return translate(parse("k.metal", text, {}), Target::cpp, {}).kernels.at(0);
}

bool is_split(const std::string& body, const std::string& more = "") {
  return kernel_of(body, more).split;
}

bool meets(const std::string& body, const std::string& more) {
  return kernel_of(body, more).meets;
}

constexpr const char* kBarrier = "threadgroup_barrier(mem_flags::mem_threadgroup);";

TEST(Split, TakesBarriersAtTheTopLevel) {
  EXPECT_TRUE(is_split(std::string("s[t] = x[i];") + kBarrier + "y[i] = s[255 - t];"));
  EXPECT_TRUE(is_split(std::string("metal::") + kBarrier + "if (i >= n) return; y[i] = s[t];"));
}

TEST(Split, LeavesBarriersThatStandDeeperToFibers) {
  EXPECT_FALSE(is_split(std::string("for (uint k = 0; k < n; ++k) {") + kBarrier + "}"));
  EXPECT_FALSE(is_split(std::string("if (n > 3) ") + kBarrier));
  EXPECT_FALSE(is_split(std::string("sync(); ") + kBarrier,
                        std::string("void sync() { ") + kBarrier + " }\n"));
  EXPECT_FALSE(is_split(std::string("y[i] = simd_sum(x[i]);") + kBarrier));
  EXPECT_FALSE(is_split("y[i] = x[i];"));
}

// A reducer as candle has it: an object of the name of the function in which it stands.
TEST(Split, SeesBarriersInTheCallOperatorsOfObjects) {
  const std::string more = std::string("struct Sum {\n  threadgroup float* s;\n") +
                           "  Sum(threadgroup float* s) : s(s) {}\n" +
                           "  float operator()(float v, uint t) { s[t] = v; " + kBarrier +
                           " return s[0]; }\n};\n"
                           "float reduce(threadgroup float* s, float v, uint t) {\n"
                           "  Sum reduce(s);\n  return reduce(v, t);\n}\n";
  EXPECT_TRUE(meets("y[i] = reduce(s, x[i], t);", more));
  EXPECT_TRUE(meets("Sum sum(s); y[i] = sum(x[i], t);", more));
  EXPECT_FALSE(meets("y[i] = x[i] + s[t];", more));
}

TEST(Split, LeavesThreadsThatEndBeforeABarrierToFibers) {
  EXPECT_FALSE(is_split(std::string("if (i >= n) return;") + kBarrier + "y[i] = 1;"));
}

TEST(Split, StoresValuesAndComputesPlacesAgain) {
  EXPECT_TRUE(is_split(std::string("float v = x[i]; float4 w = v; float a[3] = {v, v, v};") +
                       kBarrier + "y[i] = v + w.x + a[2];"));
  EXPECT_TRUE(is_split(std::string("device const float* p = x + t * n; uint j = t * 2; j += n;") +
                       kBarrier + "y[i] = p[j];"));
  EXPECT_TRUE(is_split(std::string("device const float* p = &x[t * n]; const auto j = t + 1;") +
                       kBarrier + "y[i] = p[j];"));
}

TEST(Split, LeavesWhatItCannotStoreToFibers) {
  const auto keeps = [](const std::string& before, const std::string& after) {
    return is_split(before + kBarrier + after, "struct S { float a; };\n");
  };
  EXPECT_FALSE(keeps("S v; v.a = x[i];", "y[i] = v.a;"));
  EXPECT_FALSE(keeps("auto v = x[i];", "y[i] = v;"));
  EXPECT_FALSE(keeps("float v = x[i]; thread float* p = &v;", "y[i] = *p;"));
  EXPECT_FALSE(keeps("float a[2] = {1, 2}; thread float* p = a;", "y[i] = p[1];"));
  EXPECT_FALSE(keeps("float v = x[i]; thread float& r = v;", "r = 1; y[i] = v;"));
  EXPECT_FALSE(keeps("float v = x[i]; auto f = [&] { v += 1; };", "f(); y[i] = v;"));
  EXPECT_FALSE(keeps("device const float* p = x; if (t > 3) p = x + 1;", "y[i] = p[0];"));
  EXPECT_FALSE(keeps("if (t > 3) x += 4;", "y[i] = x[0];"));
}

TEST(Split, DoesNotComputeAgainWhatMemoryDecides) {
  // A replayed read would see what other threads wrote since.
  const std::string text =
      "kernel void k(device float* y, device const uint& m, uint t [[thread_position_in_grid]]) {\n"
      "  threadgroup float s[64];\n  uint a = uint(y[0]); uint b = m; uint c = *(&m);\n"
      "  uint d = uint(s[1]);\n  threadgroup_barrier(mem_flags::mem_device);\n"
      "  y[t] = a + b + c + d;\n}\n";
  const Translation made = translate(parse("k.metal", text, {}), Target::cpp, {});
  ASSERT_TRUE(made.kernels.at(0).split);
  for (const char* kept : {"kd_kept_0", "kd_kept_1", "kd_kept_2", "kd_kept_3"})
    EXPECT_NE(made.text.find(kept), std::string::npos) << kept;
}

// The loops of the one kernel, as the text names them.
std::vector<std::string> loops_of(const std::string& body, const std::string& place) {
  const std::string text =
      "kernel void k(device const float* x, device float* y, uint i [[thread_position_in_grid]],\n"
      "  " +
      place + ") {\n  threadgroup float s[64];\n  threadgroup float first;\n" + body + "\n}\n";
  const Translation made = translate(parse("k.metal", text, {}), Target::cpp, {});
  EXPECT_TRUE(made.kernels.at(0).split);
  std::vector<std::string> found;
  size_t at = made.text.find("kd_split_k");
  while ((at = made.text.find("KD_FOR_", at)) != std::string::npos) {
    found.push_back(made.text.substr(at, made.text.find(" {", at) - at));
    ++at;
  }
  return found;
}

using Loops = std::vector<std::string>;
constexpr const char* kPlace = "uint t [[thread_position_in_threadgroup]]";

TEST(Split, CutsOutWhatOneThreadDoesAlone) {
  const std::string end = std::string(kBarrier) + "y[i] = s[t];";
  EXPECT_EQ(loops_of("s[t] = x[i]; if (t == 0) s[0] = 1;" + end, kPlace),
            (Loops{"KD_FOR_EACH", "KD_FOR_X(0u)", "KD_FOR_EACH"}));
  EXPECT_EQ(loops_of("if (!t) s[0] = 1; s[t] = x[i];" + end, kPlace),
            (Loops{"KD_FOR_X(0u)", "KD_FOR_EACH", "KD_FOR_EACH"}));
  EXPECT_EQ(loops_of("s[t] = x[i]; if (t == 63u) { s[63] = 1; }" + end,
                     "uint t [[thread_index_in_threadgroup]]"),
            (Loops{"KD_FOR_EACH", "KD_FOR_INDEX(63u)", "KD_FOR_EACH"}));
  EXPECT_EQ(
      loops_of("s[t.x] = x[i]; if (t.x == 1) s[0] = 1;" + std::string(kBarrier) + "y[i] = s[t.x];",
               "uint3 t [[thread_position_in_threadgroup]]"),
      (Loops{"KD_FOR_EACH", "KD_FOR_X(1u)", "KD_FOR_EACH"}));
}

TEST(Split, LeavesConditionsThatMoreThreadsMayMeetWhereTheyAre) {
  const Loops two = {"KD_FOR_EACH", "KD_FOR_EACH"};
  const std::string end = std::string(kBarrier) + "y[i] = s[t];";
  EXPECT_EQ(loops_of("s[t] = x[i]; if (t < 1) s[0] = 1;" + end, kPlace), two);
  EXPECT_EQ(loops_of("s[t] = x[i]; if (i == 0) s[0] = 1;" + end, kPlace), two);
  EXPECT_EQ(loops_of("s[t] = x[i]; if (t == 0) s[0] = 1; else s[1] = 1;" + end, kPlace), two);
  EXPECT_EQ(loops_of("t += 1; if (t == 0) s[0] = 1;" + end, kPlace), two);
  EXPECT_EQ(loops_of("s[t] = x[i]; if (t == 0 || i == 5) s[0] = 1;" + end, kPlace), two);
  EXPECT_EQ(loops_of(std::string(kBarrier) + "if (i > 5) return; if (t == 0) y[i] = 1;", kPlace),
            (Loops{"KD_FOR_EACH"}));
}

// An array that each thread would have to keep is dearer than a condition in a loop.
TEST(Split, CutsNothingOutAtThePriceOfArrays) {
  const std::string body = "float a[4] = {x[i], 1, 2, 3}; s[t] = a[1]; if (t == 0) s[0] = 1;";
  EXPECT_EQ(loops_of(body + "s[t] += a[2];" + kBarrier + "y[i] = s[t];", kPlace).size(), 2u);
  const std::string number = "float a = x[i]; s[t] = a; if (t == 0) first = a;";
  EXPECT_EQ(loops_of(number + kBarrier + "y[i] = s[t] - first;", kPlace).size(), 3u);
}

}  // namespace
}  // namespace mlx_kd::msl
