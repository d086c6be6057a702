// Which calls a pin serves.
#include <cmath>

#include "tests/runtime/pinned.h"

namespace mlx_kd::runtime {
namespace {

const spec::Dims kSize = {{"rows", 2}, {"D", 8}};

class Pins : public Pinned {
 protected:
  static float norm(const mx::Shape& shape, double eps = 1e-6, mx::Dtype dtype = mx::float32) {
    return std::round(first(rmsnorm(all_ones(shape, dtype), all_ones({shape.back()}, dtype), eps)));
  }
};

TEST_F(Pins, AreOffUnlessTheyAreAskedFor) {
  setenv("MLX_KD_DISCOVERED_KERNELS_PATH",
         write_pack({marking_entry("rmsnorm", kSize, 42)}).c_str(), 1);
  reset_settings();
  EXPECT_EQ(norm({2, 8}), 1);
  EXPECT_FALSE(stats().enabled);
  setenv("MLX_KD_USE_DISCOVERED_KERNELS", "on", 1);
  EXPECT_EQ(norm({2, 8}), 1);  // the environment is read when asked
  reload();
  EXPECT_EQ(norm({2, 8}), 42);
  disable();
  EXPECT_EQ(norm({2, 8}), 1);
}

TEST_F(Pins, TheVariablesOfTheFirstVersionCountWhereOursAreNotSet) {
  setenv("ZMLX_DISCOVERED_KERNELS_PATH", write_pack({marking_entry("rmsnorm", kSize, 42)}).c_str(),
         1);
  setenv("ZMLX_USE_DISCOVERED_KERNELS", "1", 1);
  reset_settings();
  EXPECT_EQ(norm({2, 8}), 42);
  setenv("MLX_KD_USE_DISCOVERED_KERNELS", "0", 1);
  reload();
  EXPECT_EQ(norm({2, 8}), 1);
}

TEST_F(Pins, ServeTheirSizeAloneHoweverItsRowsAreShaped) {
  pin({marking_entry("rmsnorm", {{"rows", 6}, {"D", 8}}, 42)});
  EXPECT_EQ(norm({6, 8}), 42);
  EXPECT_EQ(norm({2, 3, 8}), 42);
  EXPECT_EQ(norm({1, 3, 2, 8}), 42);
  EXPECT_EQ(norm({5, 8}), 1);
  EXPECT_EQ(norm({6, 9}), 1);
  EXPECT_EQ(norm({6, 8}, 1e-6, mx::float16), 1);
  EXPECT_EQ(rmsnorm(all_ones({2, 3, 8}), all_ones({8})).shape(), (mx::Shape{2, 3, 8}));
}

TEST_F(Pins, AVectorIsOneRow) {
  pin({marking_entry("rmsnorm", {{"rows", 1}, {"D", 8}}, 42)});
  EXPECT_EQ(norm({8}), 42);
  EXPECT_EQ(rmsnorm(all_ones({8}), all_ones({8})).shape(), (mx::Shape{8}));
}

TEST_F(Pins, EveryOutputComesFromTheKernel) {
  pin({marking_entry("rmsnorm_residual", kSize, 7)});
  const auto [y, updated] = rmsnorm_residual(all_ones({2, 8}), all_ones({2, 8}), all_ones({8}));
  EXPECT_EQ(first(y), 7);
  EXPECT_EQ(first(updated), 7);
}

TEST_F(Pins, OtherLayoutsAreCopiedAndMixedTypesLeftToMlx) {
  pin({marking_entry("rmsnorm", kSize, 42)});
  EXPECT_EQ(first(rmsnorm(mx::transpose(all_ones({8, 2})), all_ones({8}))), 42);
  EXPECT_LT(first(rmsnorm(all_ones({2, 8}), all_ones({8}, mx::float16))), 2);
}

TEST_F(Pins, KernelsInCppTakeEpsAtRunTime) {
  pin({marking_entry("rmsnorm", kSize, 0)});
  EXPECT_EQ(norm({2, 8}, 7e-6), 7);
  EXPECT_EQ(norm({2, 8}, 3e-6), 3);
}

TEST_F(Pins, TheFasterOfTwoTargetsIsTaken) {
  auto slow = marking_entry("rmsnorm", kSize, 1), fast = marking_entry("rmsnorm", kSize, 2);
  slow.target = {{"cores", 1}};
  fast.metrics.kernel_us = 0.5;
  pin({slow, fast});
  EXPECT_EQ(norm({2, 8}), 2);
}

TEST_F(Pins, EntriesForOthersAreSkippedWithTheFieldThatDiffers) {
  const auto changed = [](const std::function<void(packs::Entry&)>& change) {
    packs::Entry entry = marking_entry("rmsnorm", kSize, 42);
    change(entry);
    return entry;
  };
  const std::pair<packs::Entry, std::string> cases[] = {
      {changed([](auto& e) { e.key.mlx_version = "0.1.0"; }), "for MLX 0.1.0"},
      {changed([](auto& e) { e.key.device_name = "Abacus"; }), "another device: Abacus"},
      {changed([](auto& e) { e.key.device_arch = "z80"; }), "another device"},
      {changed([](auto& e) { e.key.mlx_version = "unknown"; }), "for MLX unknown"},
      {changed([](auto& e) {
         e.target = {{"isa", {"avx9000"}}};
       }),
       "its isa is [\"avx9000\"]"},
      {changed([](auto& e) {
         e.target = {{"cores", 100000}};
       }),
       "its cores is 100000"},
      {changed([](auto& e) {
         e.target = {{"sm", 90}};
       }),
       "its sm is 90"},
      {changed([](auto& e) { e.language = "cuda"; }), "no engine for cuda"},
      {changed([](auto& e) { e.key.op_name = "softmax"; }), "no such op"},
      {changed([](auto& e) { e.protocol = "null"; }), "null device"},
      {changed([](auto& e) { e.contract = 2; }), "for contract 2 of the op, which has contract 1"},
      {changed([](auto& e) { e.approximate = true; }), "it is approximate"},
      {changed([](auto& e) { e.func_name = "a;b"; }), "not a valid identifier"},
      {changed([](auto& e) { e.func_name = "../../lib/evil"; }), "not a valid identifier"},
      {changed([](auto& e) { e.func_name = std::string("mlx_kd_rmsnorm\0", 15); }),
       "not a valid identifier"},
      {changed([](auto& e) { e.key.op_name = "../rmsnorm"; }), "no such op"},
      {changed([](auto& e) { e.func_name = "mlx_kd_other"; }), "no cpp kernel"},
      {changed([](auto& e) { e.launch_params["GRAIN"] = -3; }), "its GRAIN is -3"},
      {changed([](auto& e) { e.launch_params["THREADS"] = int64_t(1) << 31; }), "THREADS"},
      {changed([](auto& e) { e.launch_params["launch_kind"] = "../cpu_rows"; }), "no cpp kernel"},
      {changed([](auto& e) { e.knobs["A B"] = 1; }), "a name that no macro has"},
      {changed([](auto& e) { e.knobs["../A"] = 1; }), "a name that no macro has"},
      {changed([](auto& e) { e.knobs[std::string("A\0B", 3)] = 1; }), "its knob 'A"},
      {changed([](auto& e) { e.inputs_spec = ports(1); }), "other inputs or outputs"},
      {changed([](auto& e) {
         e.key.shape_signature = {{"rows", 2}};
       }),
       "no D"},
      {changed([](auto& e) {
         e.key.shape_signature = {{"rows", int64_t(1) << 40}, {"D", int64_t(1) << 40}};
       }),
       "larger than any array"},
  };
  for (const auto& [entry, reason] : cases) {
    pin({entry});
    EXPECT_EQ(norm({2, 8}), 1) << reason;
    ASSERT_EQ(stats().skipped.size(), 1u) << reason;
    expect_part(stats().skipped[0].reason, reason);
  }
}

TEST_F(Pins, AnApproximateKernelServesOnceItIsAllowed) {
  auto rough = marking_entry("rmsnorm", {{"rows", 2}, {"D", 8}}, 42);
  rough.approximate = true;
  pin({rough});
  EXPECT_EQ(norm({2, 8}), 1);
  configure({.allow_approximate = true});
  EXPECT_EQ(norm({2, 8}), 42);
  configure({.allow_approximate = false});
  EXPECT_EQ(norm({2, 8}), 1);
}

TEST_F(Pins, ARangeServesTheSizesInsideItThatHaveNoPinOfTheirOwn) {
  auto ranged = marking_entry("rmsnorm", {{"rows", 4}, {"D", 8}}, 3);
  ranged.rows_range = {2, 6, {2, 4, 6}};
  pin({ranged, marking_entry("rmsnorm", {{"rows", 5}, {"D", 8}}, 4)});
  EXPECT_EQ(norm({1, 8}), 1);
  EXPECT_EQ(norm({2, 8}), 3);
  EXPECT_EQ(norm({3, 8}), 3);
  EXPECT_EQ(norm({4, 8}), 3);
  EXPECT_EQ(norm({5, 8}), 4);
  EXPECT_EQ(norm({6, 8}), 3);
  EXPECT_EQ(norm({7, 8}), 1);
  EXPECT_EQ(norm({3, 9}), 1);
  const mx::array whole = rmsnorm(all_ones({3, 8}), all_ones({8}));
  EXPECT_TRUE(mx::all(mx::equal(whole, mx::array(3.0f))).item<bool>());
}

TEST_F(Pins, ARangeOfTheBatchDimMayBeStatedByItsName) {
  auto ranged = marking_entry("rmsnorm", {{"rows", 4}, {"D", 8}}, 3);
  ranged.ranges = {{"rows", {2, 6, {2, 4, 6}}}};
  pin({ranged});
  EXPECT_EQ(norm({1, 8}), 1);
  EXPECT_EQ(norm({6, 8}), 3);
}

TEST_F(Pins, TheNarrowerOfTwoRangesWins) {
  auto wide = marking_entry("rmsnorm", {{"rows", 10}, {"D", 8}}, 3);
  wide.rows_range = {1, 100, {1, 10, 100}};
  auto narrow = marking_entry("rmsnorm", {{"rows", 20}, {"D", 8}}, 4);
  narrow.rows_range = {5, 25, {5, 20, 25}};
  pin({wide, narrow});
  EXPECT_EQ(norm({4, 8}), 3);
  EXPECT_EQ(norm({7, 8}), 4);
  EXPECT_EQ(norm({26, 8}), 3);
}

TEST_F(Pins, AChangedFileIsTakenUpWhenAsked) {
  pin({marking_entry("rmsnorm", kSize, 1000)});
  EXPECT_EQ(norm({2, 8}), 1000);
  write_pack({marking_entry("rmsnorm", kSize, 2000)});
  EXPECT_EQ(norm({2, 8}), 1000);
  reload();
  EXPECT_EQ(norm({2, 8}), 2000);
  write("pins.json", "{");
  EXPECT_NE(refusal<base::Error>([] { reload(); }), "nothing was refused");
  EXPECT_EQ(norm({2, 8}), 2000);  // the old pins stay
}

TEST_F(Pins, ASourceThatDoesNotCompileIsDroppedAndMlxRuns) {
  auto broken = marking_entry("rmsnorm", kSize, 42);
  broken.source = "this is no C++";
  pin({broken});
  EXPECT_EQ(norm({2, 8}), 1);
  EXPECT_EQ(norm({2, 8}), 1);
  const Stats now = stats();
  EXPECT_EQ(now.fallbacks, 2u);
  EXPECT_GE(now.dropped, 1u);
  ASSERT_EQ(now.pins.size(), 1u);
  EXPECT_EQ(now.pins[0].state, "dropped");
  EXPECT_NE(now.pins[0].reason, "");
}

TEST_F(Pins, PrepareMakesThemReadyBeforeTheFirstCall) {
  pin({marking_entry("rmsnorm", kSize, 77)});
  EXPECT_EQ(prepare(), 1u);
  ASSERT_EQ(stats().pins.size(), 1u);
  EXPECT_EQ(stats().pins[0].state, "ready");
  EXPECT_FALSE(stats().pins[0].cached);
  EXPECT_GT(stats().pins[0].compile_ms, 0);
  EXPECT_EQ(norm({2, 8}), 77);
}

}  // namespace
}  // namespace mlx_kd::runtime
