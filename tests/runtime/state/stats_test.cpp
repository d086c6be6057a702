// What stats(), explain() and the warning say.
#include "tests/runtime/pinned.h"

namespace mlx_kd::runtime {
namespace {

const spec::Dims kStatsSize = {{"rows", 2}, {"D", 8}};

class Telemetry : public Pinned {
 protected:
  static void norm(const mx::Shape& shape, double eps = 1e-6) {
    mx::eval(rmsnorm(all_ones(shape), all_ones({shape.back()}), eps));
  }
};

TEST_F(Telemetry, CountsHitsMissesAndFallbacks) {
  auto broken = marking_entry("rmsnorm", {{"rows", 3}, {"D", 8}}, 5);
  broken.source = "#error broken";
  pin({marking_entry("rmsnorm", kStatsSize, 4), broken});
  for (int i = 0; i < 5; ++i) norm({2, 8});
  for (int i = 0; i < 3; ++i) norm({7, 8});
  for (int i = 0; i < 2; ++i) norm({3, 8});
  norm({0, 8});
  const Stats now = stats();
  EXPECT_TRUE(now.enabled);
  EXPECT_EQ(now.calls, 11u);
  EXPECT_EQ(now.hits, 5u);
  EXPECT_EQ(now.misses, 4u);
  EXPECT_EQ(now.fallbacks, 2u);
  ASSERT_EQ(now.pins.size(), 2u);
  EXPECT_EQ(now.pins[0].shape, "rows=2,D=8");
  EXPECT_EQ(now.pins[0].hits, 5u);
  EXPECT_EQ(now.pins[0].state, "ready");
  EXPECT_EQ(now.pins[1].hits, 0u);
  ASSERT_EQ(now.missed.size(), 1u);
  EXPECT_EQ(now.missed[0].shape, "rows=7,D=8");
  EXPECT_EQ(now.missed[0].calls, 3u);
  expect_part(now.missed[0].nearest, "rmsnorm float32 rows=");
  expect_part(now.missed[0].differs, "rows: 7 here, ");
  reset_stats();
  EXPECT_EQ(stats().calls, 0u);
  EXPECT_EQ(stats().pins[0].hits, 0u);
  norm({2, 8});
  EXPECT_EQ(stats().pins[0].hits, 1u);
}

TEST_F(Telemetry, CountsOfThreadsThatEndedStay) {
  pin({marking_entry("rmsnorm", kStatsSize, 6)});
  norm({2, 8});
  std::thread([] {
    for (int i = 0; i < 3; ++i) rmsnorm(all_ones({2, 8}), all_ones({8}));
    rmsnorm(all_ones({9, 8}), all_ones({8}));
  }).join();
  EXPECT_EQ(stats().hits, 4u);
  EXPECT_EQ(stats().misses, 1u);
  EXPECT_EQ(stats().pins[0].hits, 4u);
}

TEST_F(Telemetry, HitsOfPinsThatWereReplacedAreNotThoseOfTheNewOnes) {
  pin({marking_entry("rmsnorm", kStatsSize, 8)});
  norm({2, 8});
  pin({marking_entry("rmsnorm", kStatsSize, 9)});
  norm({2, 8});
  norm({2, 8});
  EXPECT_EQ(stats().pins[0].hits, 2u);
  EXPECT_EQ(stats().hits, 3u);
}

TEST_F(Telemetry, CallsWhilePinsAreOffAreMissesWithoutASize) {
  for (int i = 0; i < 3; ++i) norm({7, 8});
  swiglu(all_ones({2, 8}), all_ones({2, 8}));
  rmsnorm_residual(all_ones({2, 8}), all_ones({2, 8}), all_ones({8}));
  call("rmsnorm", {all_ones({9, 8}), all_ones({8})});
  EXPECT_EQ(stats().calls, 6u);
  EXPECT_EQ(stats().misses, 6u);
  pin({marking_entry("rmsnorm", kStatsSize, 4)});
  norm({9, 8});
  ASSERT_EQ(stats().missed.size(), 1u);
  EXPECT_EQ(stats().missed[0].shape, "rows=9,D=8");
  EXPECT_EQ(stats().missed[0].calls, 1u);
}

TEST_F(Telemetry, ManySizesAreCountedThoughNotEachRemembered) {
  pin({marking_entry("rmsnorm_residual", kStatsSize, 3)});
  for (int d = 1; d <= 17000; ++d) rmsnorm(all_ones({1, d}), all_ones({d}));
  EXPECT_EQ(stats().calls, 17000u);
}

TEST_F(Telemetry, ExplainNamesWhatDiffers) {
  const auto why = [](const mx::Shape& shape, double eps = 1e-6, mx::Dtype dtype = mx::float32) {
    return explain("rmsnorm", {all_ones(shape, dtype), all_ones({shape.back()}, dtype)},
                   {{"eps", eps}});
  };
  expect_part(why({2, 8}).reason, "pins are off");
  pin({marking_entry("rmsnorm", kStatsSize, 10)});
  const Explanation hit = why({2, 8});
  EXPECT_TRUE(hit.pinned);
  EXPECT_EQ(hit.candidate_id, "rmsnorm_10");
  EXPECT_EQ(hit.state, "unused");
  expect_part(hit.reason, "rows=2,D=8, 3.00 times as fast as MLX");
  const Explanation miss = why({3, 8}, 1e-6, mx::float16);
  EXPECT_FALSE(miss.pinned);
  EXPECT_EQ(miss.nearest, "rmsnorm float32 rows=2,D=8");
  EXPECT_EQ(miss.differs, "dtype: float16 here, float32 in the pin; rows: 3 here, 2 in the pin");
  expect_part(explain("swiglu", {all_ones({2, 8}), all_ones({2, 8})}).reason, "no pin of this op");
  expect_part(explain("rmsnorm", {all_ones({2, 8}), all_ones({8}, mx::float16)}).reason,
              "different types");
  expect_part(why({0, 8}).reason, "empty");
  expect_part(refusal([] { explain("rmsnorm", {all_ones({2, 8}), all_ones({7})}); }), "weight");
  EXPECT_EQ(stats().calls, 0u);
  EXPECT_EQ(stats().pins[0].state, "unused");  // nothing ran
}

TEST_F(Telemetry, ReportsAreJson) {
  pin({marking_entry("rmsnorm", kStatsSize, 11)});
  norm({2, 8});
  norm({3, 8});
  const base::Json report = base::Json::parse(to_json(stats()));
  EXPECT_EQ(report["hits"], 1);
  EXPECT_EQ(report["pins"][0]["candidate_id"], "rmsnorm_11");
  EXPECT_EQ(report["missed"][0]["calls"], 1);
  const base::Json why =
      base::Json::parse(to_json(explain("rmsnorm", {all_ones({2, 8}), all_ones({8})})));
  EXPECT_EQ(why["pinned"], true);
}

// In a process of its own: the warning comes once a process, and never after a match.
void call_what_never_matches(int calls) {
  for (int i = 0; i < calls; ++i) rmsnorm(all_ones({4, 8}), all_ones({8}));
  std::fputs("end\n", stderr);
  std::_Exit(0);
}

TEST_F(Telemetry, OneLoudWarningComesAfterAThousandCallsThatNeverMatched) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  pin({marking_entry("rmsnorm", kStatsSize, 12)});
  EXPECT_EXIT(call_what_never_matches(999), testing::ExitedWithCode(0), "^end\n$");
  EXPECT_EXIT(call_what_never_matches(5000), testing::ExitedWithCode(0),
              "^\\[runtime\\] WARNING: pins are on and none matched in 1000 calls.*"
              "rows: 4 here, 2 in the pin.*\nend\n$");
}

}  // namespace
}  // namespace mlx_kd::runtime
