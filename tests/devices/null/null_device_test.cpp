#include "mlx_kd/devices/null/null_device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "mlx_kd/base/error.h"

namespace mlx_kd::devices::null {
namespace {

spec::Candidate candidate(int64_t vec, int64_t unroll, int64_t threads) {
  spec::Candidate result;
  result.op_name = "op";
  result.variant = "rows";
  result.knobs = {{"VEC", vec}, {"UNROLL", unroll}, {"THREADS", threads}};
  return result;
}

const spec::Dims kDims = {{"rows", 4}, {"D", 4096}};

TEST(NullDevice, TheSameCandidateTakesTheSameTime) {
  const double first = null_kernel_us(candidate(8, 2, 1), kDims);
  EXPECT_GT(first, 0);
  EXPECT_EQ(first, null_kernel_us(candidate(8, 2, 1), kDims));
  auto turned = candidate(8, 2, 1);
  turned.knobs = {{"THREADS", 1}, {"VEC", 8}, {"UNROLL", 2}};
  EXPECT_EQ(first, null_kernel_us(turned, kDims));
}

TEST(NullDevice, EveryKnobAndTheSizeAndTheTypeMatter) {
  const double base = null_kernel_us(candidate(8, 2, 1), kDims);
  EXPECT_NE(base, null_kernel_us(candidate(16, 2, 1), kDims));
  EXPECT_NE(base, null_kernel_us(candidate(8, 4, 1), kDims));
  EXPECT_NE(base, null_kernel_us(candidate(8, 2, 2), kDims));
  EXPECT_LT(base, null_kernel_us(candidate(8, 2, 1), {{"rows", 4}, {"D", 1 << 20}}));
  auto half = candidate(8, 2, 1);
  half.dtype = spec::Dtype::float16;
  EXPECT_NE(base, null_kernel_us(half, kDims));
}

// Walking downhill over neighbours ends at the best point from wherever it starts.
TEST(NullDevice, TheLandscapeHasOneBasin) {
  constexpr int kSide = 8;
  const auto us = [](int a, int b) { return null_kernel_us(candidate(1 << a, 1 << b, 4), kDims); };
  double best = INFINITY;
  for (int a = 0; a < kSide; ++a)
    for (int b = 0; b < kSide; ++b) best = std::min(best, us(a, b));
  for (int start = 0; start < kSide * kSide; ++start) {
    int a = start / kSide, b = start % kSide;
    for (bool moved = true; moved;) {
      moved = false;
      for (int da = -1; da <= 1; ++da)
        for (int db = -1; db <= 1; ++db) {
          const int na = std::clamp(a + da, 0, kSide - 1), nb = std::clamp(b + db, 0, kSide - 1);
          if (us(na, nb) < us(a, b)) a = na, b = nb, moved = true;
        }
    }
    EXPECT_EQ(us(a, b), best) << start;
  }
}

TEST(NullDevice, AFewSettingsFailEachInItsWay) {
  std::map<spec::Status, int> counts;
  for (int vec = 1; vec <= 50; ++vec)
    for (int unroll = 1; unroll <= 40; ++unroll) ++counts[null_status(candidate(vec, unroll, 1))];
  EXPECT_GT(counts[spec::Status::benchmarked], 1800);
  EXPECT_GT(counts[spec::Status::compile_error], 5);
  EXPECT_GT(counts[spec::Status::wrong], 5);
  EXPECT_GT(counts[spec::Status::timeout], 5);
}

TEST(NullDevice, TakesTheVariantsOfTheCpuAndRunsNone) {
  const auto device = open_null_device();
  EXPECT_EQ(device->languages(), std::vector<std::string>{"cpp"});
  EXPECT_EQ(device->id().name, "null");
  const spec::Candidate one = candidate(8, 2, 1);
  EXPECT_EQ(device->compile(one, 1).ok, null_status(one) != spec::Status::compile_error);
  EXPECT_THROW(device->load({}, one), base::Error);
}

TEST(NullDevice, MlxIsSlowerThanTheBestSetting) {
  double best = INFINITY;
  for (int a = 0; a < 8; ++a)
    for (int b = 0; b < 8; ++b)
      for (int c = 0; c < 4; ++c)
        best = std::min(best, null_kernel_us(candidate(1 << a, 1 << b, 1 << c), kDims));
  EXPECT_LT(best, null_mlx_us(kDims, spec::Dtype::float32));
}

}  // namespace
}  // namespace mlx_kd::devices::null
