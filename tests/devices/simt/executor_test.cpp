// Launches that go wrong, and what the checks find.
#include <gtest/gtest.h>

#include <cmath>

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/simt/checks/session.h"

namespace mlx_kd::devices::simt {
namespace {

constexpr const char* kText = R"(#include <metal_stdlib>
using namespace metal;
kernel void never(device float* y, uint i [[thread_position_in_grid]]) {
  while (y[i] < 1) y[i] -= 1;
}
kernel void never_fibers(device float* y, uint i [[thread_position_in_grid]]) {
  threadgroup_barrier(mem_flags::mem_device);
  while (y[i] < 1) y[i] -= 1;
}
kernel void wild(device int* y, uint i [[thread_position_in_grid]]) {
  y[i + 4000000000000ul] = 1;
}
kernel void deep(device int* y, uint i [[thread_position_in_grid]]) {
  volatile int local[100000];
  local[y[i]] = 1;
  y[i] = local[y[i] + 99999];
}
kernel void lent(device float* y, threadgroup float* s [[threadgroup(0)]],
                 uint t [[thread_position_in_threadgroup]]) {
  s[t] = 1;
  y[t] = s[t];
}
kernel void race(device float* y, uint t [[thread_position_in_threadgroup]]) {
  threadgroup float s[64];
  s[t] = t;
  y[t] = s[(t + 1) % 64];
}
kernel void global_race(device float* y, uint i [[thread_position_in_grid]]) {
  y[0] = i;
}
kernel void weak_barrier(device float* y, uint t [[thread_position_in_threadgroup]]) {
  threadgroup float s[64];
  s[t] = t;
  threadgroup_barrier(mem_flags::mem_device);
  y[t] = s[(t + 1) % 64];
}
kernel void unwritten(device float* y, uint t [[thread_position_in_threadgroup]]) {
  threadgroup float s[64];
  if (t < 63) s[t] = t;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[t] = s[t];
}
kernel void beyond(device float* y, uint t [[thread_position_in_threadgroup]]) {
  threadgroup float s[63];
  s[t] = t;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[t] = t;
}
kernel void past_input(device const float* x, device float* y, uint i [[thread_position_in_grid]]) {
  y[i] = x[i + 1];
}
kernel void half_barrier(device float* y, uint t [[thread_position_in_threadgroup]]) {
  if (t < 32) threadgroup_barrier(mem_flags::mem_none);
  y[t] = t;
}
kernel void place(device uint* y, uint3 i [[thread_position_in_grid]], uint3 n [[threads_per_grid]],
                  uint index [[thread_index_in_threadgroup]], uint3 size [[threads_per_threadgroup]],
                  uint sg [[simdgroup_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]]) {
  y[i.x + n.x * (i.y + n.y * i.z)] = index * 10000 + size.x * size.y * size.z + (sg * 32 + lane == index);
}
)";

Session& session() {
  static Session one("k.metal", kText, {}, {});
  return one;
}

MslRequest request(const std::string& kernel, const std::string& type = "f32") {
  MslRequest made;
  made.kernel = kernel;
  made.grid = made.threadgroup = {64, 1, 1};
  made.arrays.push_back(parse_output("y=" + type + ":[64]"));
  made.launch.timeout_s = 30;
  return made;
}

std::string message(MslRequest given) {
  try {
    session().run(given);
  } catch (const base::Error& error) {
    return error.what();
  }
  return "";
}

std::string finding(const std::string& kernel, std::vector<HostArray> more = {}) {
  MslRequest given = request(kernel);
  given.arrays.insert(given.arrays.end(), more.begin(), more.end());
  given.check_races = given.check_memory = true;
  const MslOutcome outcome = session().run(given);
  return outcome.findings.empty() ? "" : outcome.findings[0];
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(Executor, EndsAKernelThatNeverEnds) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the thread sanitizer holds back the signal that ends a kernel";
#endif
  for (const char* kernel : {"never", "never_fibers"}) {
    MslRequest given = request(kernel);
    given.launch.timeout_s = 0.2;
    EXPECT_TRUE(
        has(message(given), std::string("kernel '") + kernel + "' did not end within 0.2 s"))
        << message(given);
  }
}

TEST(Executor, SurvivesAccessesToMemoryThatIsNotThere) {
  EXPECT_TRUE(has(message(request("wild", "i32")), "an access to memory that is no buffer"));
}

TEST(Executor, NamesAStackThatIsTooSmall) {
  MslRequest given = request("deep", "i32");
  given.launch.fibers = true;
  EXPECT_TRUE(has(message(given), "stack")) << message(given);
}

TEST(Executor, RefusesMoreThreadgroupMemoryThanMetal) {
  constexpr const char* text =
      "kernel void greedy(device float* y, uint t [[thread_position_in_threadgroup]]) {\n"
      "  threadgroup float s[5000];\n  threadgroup float more[4000];\n  s[t] = more[t] = 1;\n}\n";
  try {
    MslRequest given = request("greedy");
    Session("k.metal", text, {}, {}).run(given);
    FAIL();
  } catch (const base::Error& error) {
    EXPECT_TRUE(has(error.what(), "k.metal:3:") && has(error.what(), "32 KiB")) << error.what();
  }
  MslRequest given = request("lent");
  given.group_bytes = {40000};
  EXPECT_TRUE(has(message(given), "32768 bytes of threadgroup memory")) << message(given);
}

TEST(Executor, RefusesSizesThatMetalDoesNotAllow) {
  MslRequest given = request("race");
  given.grid = {0, 1, 1};
  EXPECT_TRUE(has(message(given), "grid has 0 threads in x"));
  given = request("race");
  given.threadgroup = {64, 0, 1};
  EXPECT_TRUE(has(message(given), "threadgroup has 0 threads in y"));
  given.threadgroup = {64, 32, 1};
  EXPECT_TRUE(has(message(given), "2048 threads"));
}

TEST(Executor, RefusesBuffersThatDoNotFitTheKernel) {
  EXPECT_TRUE(has(message(request("race", "f16")), "k.metal:23:32: buffer 'y' holds float (f32)"))
      << message(request("race", "f16"));
  MslRequest given = request("race");
  given.arrays[0].name = "z";
  EXPECT_TRUE(has(message(given), "has no buffer 'z': it has 'y'"));
  EXPECT_TRUE(has(message(request("past_input")), "buffer 'x' of 'past_input' is not given"));
  EXPECT_TRUE(has(message(request("nothing")), "no kernel 'nothing'"));
}

TEST(Executor, GivesPartialGroupsTheirTrueSizes) {
  for (const bool fibers : {false, true}) {
    MslRequest given = request("place", "u32");
    given.grid = {6, 5, 2};
    given.threadgroup = {4, 4, 1};
    given.launch.fibers = fibers;
    session().run(given);
    EXPECT_EQ(given.arrays[0].at(0), 16 + 1);
    EXPECT_EQ(given.arrays[0].at(4), 2 * 4 + 1);          // the group to the right: 2 x 4
    EXPECT_EQ(given.arrays[0].at(4 + 6), 20000 + 8 + 1);  // its second row starts at index 2
    EXPECT_EQ(given.arrays[0].at(29), 10000 + 2 + 1);     // the corner: 2 x 1
  }
}

TEST(Checker, FindsARaceBetweenTwoLines) {
  const std::string text = finding("race");
  EXPECT_TRUE(has(text, "k.metal:26") && has(text, "before any thread wrote it")) << text;
  MslRequest given = request("race");
  given.check_races = true;
  const MslOutcome outcome = session().run(given);
  ASSERT_FALSE(outcome.findings.empty());
  EXPECT_TRUE(has(outcome.findings[0], "data race") && has(outcome.findings[0], "k.metal:25") &&
              has(outcome.findings[0], "k.metal:26") && has(outcome.findings[0], "'s'"))
      << outcome.findings[0];
}

TEST(Checker, FindsARaceInDeviceMemory) {
  EXPECT_TRUE(has(finding("global_race"), "k.metal:29: data race")) << finding("global_race");
}

TEST(Checker, KnowsThatABarrierOrdersOnlyTheMemoryThatItNames) {
  MslRequest given = request("weak_barrier");
  given.check_races = true;
  const MslOutcome outcome = session().run(given);
  ASSERT_FALSE(outcome.findings.empty());
  EXPECT_TRUE(has(outcome.findings[0], "data race"));
}

TEST(Checker, FindsReadsOfUnwrittenMemory) {
  EXPECT_TRUE(has(finding("unwritten"), "k.metal:41: thread 63")) << finding("unwritten");
}

TEST(Checker, FindsAccessesBeyondTheEnd) {
  EXPECT_TRUE(has(finding("beyond"), "k.metal:45: thread 63")) << finding("beyond");
  const std::string text = finding("past_input", {parse_array("x=ones:f32:[64]", 0)});
  EXPECT_TRUE(has(text, "k.metal:50") && has(text, "byte 256 of 'x'")) << text;
}

TEST(Checker, FindsADivergentBarrier) {
  EXPECT_TRUE(has(finding("half_barrier"), "k.metal:53:15: divergent barrier"))
      << finding("half_barrier");
}

TEST(HostArray, RefusesWhatItCannotRead) {
  for (const char* text : {"x", "x=", "x=rand", "x=rand:f31:[3]", "x=rand:f32:3", "x=rand:f32:[]",
                           "x=rand:f32:[0]", "x=rand:f32:[-1]", "x=some:f32:[3]", "=rand:f32:[3]",
                           "x=rand:f32:[1000000,1000000,1000000]"})
    EXPECT_THROW(parse_array(text, 0), base::Error) << text;
}

TEST(HostArray, RoundsToItsType) {
  HostArray array = parse_output("y=f16:[4]");
  array.set(0, 65519), array.set(1, 65520), array.set(2, 0x1.003p0), array.set(3, 0x1p-24);
  EXPECT_EQ(array.at(0), 65504);
  EXPECT_TRUE(std::isinf(array.at(1)));
  EXPECT_EQ(array.at(2), 0x1.004p0);
  EXPECT_EQ(array.at(3), 0x1p-24);
}

}  // namespace
}  // namespace mlx_kd::devices::simt
