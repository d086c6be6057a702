// A whole program's life with what the environment says: each test starts this program again.
#include "tests/runtime/pinned.h"

namespace mlx_kd::runtime {
namespace {

class Program : public Pinned {
 protected:
  // Runs a test below in a process of its own, with these variables.
  static tests::CliResult in_new_program(const std::string& test,
                                         const std::map<std::string, std::string>& env) {
    return tests::run_cli(
        {"--gtest_also_run_disabled_tests", "--gtest_filter=User.DISABLED_" + test},
        {.env = env, .program = std::filesystem::read_symlink("/proc/self/exe")});
  }
};

// What a user's program does, with nothing set in code.
TEST(User, DISABLED_CallsRmsnorm) {
  const float y = std::round(first(rmsnorm(all_ones({2, 8}), all_ones({8}))));
  std::printf("y=%g error=%s\n", y, stats().error.c_str());
}

TEST(User, DISABLED_IsToldThatAVariableIsWrong) {
  std::printf("%s\n", refusal<base::Error>([] {
                        rmsnorm(all_ones({2, 8}), all_ones({8}));
                      }).c_str());
}

TEST(User, DISABLED_CallsThreeSizes) {
  for (int i = 0; i < 300; ++i) rmsnorm(all_ones({2, 8}), all_ones({8}));
  for (int i = 0; i < 7; ++i) swiglu(all_ones({3, 4}, mx::float16), all_ones({3, 4}, mx::float16));
  std::thread([] { rmsnorm(all_ones({5, 8}), all_ones({8})); }).join();
}

TEST_F(Program, TheEnvironmentSwitchesPinsOn) {
  const std::string pack = write_pack({marking_entry("rmsnorm", {{"rows", 2}, {"D", 8}}, 42)});
  const auto on = in_new_program("CallsRmsnorm", {{"MLX_KD_USE_DISCOVERED_KERNELS", "1"},
                                                  {"MLX_KD_DISCOVERED_KERNELS_PATH", pack}});
  expect_part(on.out, "y=42 error=\n");
  EXPECT_EQ(on.err, "");
  expect_part(in_new_program("CallsRmsnorm", {{"MLX_KD_DISCOVERED_KERNELS_PATH", pack}}).out,
              "y=1 error=\n");
}

TEST_F(Program, APackThatTheEnvironmentNamesAndThatCannotBeLoadedNeverStopsIt) {
  const auto ran = in_new_program(
      "CallsRmsnorm",
      {{"MLX_KD_USE_DISCOVERED_KERNELS", "1"}, {"MLX_KD_DISCOVERED_KERNELS_PATH", "none.json"}});
  EXPECT_EQ(ran.code, 0);
  expect_part(ran.out, "y=1 error=[runtime] the pack none.json is not loaded");
  EXPECT_EQ(ran.err.find("pins are on and MLX's operators run"), std::string("[runtime] ").size());
  EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1);
}

TEST_F(Program, AVariableThatIsNeitherOnNorOffIsAnErrorOfTheFirstCall) {
  const auto ran =
      in_new_program("IsToldThatAVariableIsWrong", {{"MLX_KD_USE_DISCOVERED_KERNELS", "perhaps"}});
  expect_part(ran.out, "MLX_KD_USE_DISCOVERED_KERNELS is 'perhaps': set it to 1 or 0");
}

TEST_F(Program, ASecondProcessFindsTheKernelsOfTheFirstOnDisk) {
  const std::string pack = write_pack({marking_entry("rmsnorm", {{"rows", 2}, {"D", 8}}, 42)});
  const tests::CliOptions own_cache{.env = {{"MLX_KD_CACHE_DIR", folder_ / "cache"}}};
  const auto first_run = tests::run_cli({"prewarm", pack, "--json"}, own_cache);
  ASSERT_EQ(first_run.code, 0) << first_run.err;
  EXPECT_EQ(base::Json::parse(first_run.out)["compiled"], 1);
  const auto second = base::Json::parse(tests::run_cli({"prewarm", pack, "--json"}, own_cache).out);
  EXPECT_EQ(second["compiled"], 0);
  EXPECT_EQ(second["loaded"], 1);
}

TEST_F(Program, TheShapeLogHoldsWhatWasCalledWhenItEnds) {
  const std::string log = folder_ / "shapes.jsonl";
  ASSERT_EQ(in_new_program("CallsThreeSizes", {{"MLX_KD_SHAPE_LOG", log}}).code, 0);
  std::map<std::string, int64_t> calls;
  std::istringstream lines(tests::text_of(log));
  for (std::string line; std::getline(lines, line);) {
    const base::Json entry = base::Json::parse(line);
    EXPECT_EQ(entry.size(), 6u) << line;
    EXPECT_EQ(entry["source"], "mlx_kd");
    calls[entry["op_name"].get<std::string>() + " " + entry["dtype"].get<std::string>() + " " +
          entry["shape_signature"].dump()] += entry["count"].get<int64_t>();
  }
  const std::map<std::string, int64_t> expected = {
      {"rmsnorm float32 {\"D\":8,\"rows\":2}", 300},
      {"rmsnorm float32 {\"D\":8,\"rows\":5}", 1},
      {"swiglu float16 {\"D\":4,\"N\":12,\"rows\":3}", 7}};
  EXPECT_EQ(calls, expected);
}

TEST_F(Program, AShapeLogOfEventsHasALineACall) {
  const std::string log = folder_ / "shapes.jsonl";
  ASSERT_EQ(in_new_program("CallsThreeSizes",
                           {{"MLX_KD_SHAPE_LOG", log}, {"MLX_KD_SHAPE_LOG_MODE", "event"}})
                .code,
            0);
  const std::string text = tests::text_of(log);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 308);
}

TEST_F(Program, AShapeLogHasTheNamesOfZmlxToo) {
  const std::string log = folder_ / "shapes.jsonl";
  const auto ran = in_new_program("CallsThreeSizes", {{"ZMLX_KD_SHAPE_LOG", log},
                                                      {"ZMLX_KD_SHAPE_LOG_MODE", "event"},
                                                      {"ZMLX_KD_SHAPE_LOG_FLUSH_EVERY", "10"},
                                                      {"ZMLX_KD_SHAPE_LOG_MAX", "100"}});
  EXPECT_EQ(ran.code, 0);
  const std::string text = tests::text_of(log);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 100);
}

TEST_F(Program, AShapeLogEndsAtItsMostLinesAndWhereItCannotBeWritten) {
  const std::string log = folder_ / "shapes.jsonl";
  const auto ran = in_new_program("CallsThreeSizes", {{"MLX_KD_SHAPE_LOG", log},
                                                      {"MLX_KD_SHAPE_LOG_MODE", "event"},
                                                      {"MLX_KD_SHAPE_LOG_FLUSH_EVERY", "10"},
                                                      {"MLX_KD_SHAPE_LOG_MAX", "100"}});
  EXPECT_EQ(ran.code, 0);
  expect_part(ran.err, "has its 100 lines");
  const std::string text = tests::text_of(log);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 100);
  const auto nowhere = in_new_program("CallsThreeSizes", {{"MLX_KD_SHAPE_LOG", "/none/x.jsonl"}});
  EXPECT_EQ(nowhere.code, 0);
  expect_part(nowhere.err, "cannot be written");
  expect_part(in_new_program("IsToldThatAVariableIsWrong",
                             {{"MLX_KD_SHAPE_LOG", log}, {"MLX_KD_SHAPE_LOG_MODE", "often"}})
                  .out,
              "MLX_KD_SHAPE_LOG_MODE is 'often': set it to count or event");
}

TEST_F(Program, PrewarmSaysWhatItLeftOutAndFailsWhereNothingIsOfUse) {
  auto foreign = marking_entry("rmsnorm", {{"rows", 3}, {"D", 8}}, 1);
  foreign.key.device_name = "Abacus";
  const auto both = tests::run_cli(
      {"prewarm", write_pack({marking_entry("rmsnorm", {{"rows", 2}, {"D", 8}}, 42), foreign})});
  EXPECT_EQ(both.code, 0) << both.err;
  expect_part(both.out, "rows=2,D=8  rmsnorm_42");
  expect_part(both.out, "left out: rmsnorm float32 D=8,rows=3 on Abacus");
  EXPECT_EQ(tests::run_cli({"prewarm", write_pack({foreign})}).code, 1);
  auto broken = marking_entry("rmsnorm", {{"rows", 2}, {"D", 8}}, 42);
  broken.source = "#error no";
  const auto failed = tests::run_cli({"prewarm", write_pack({broken})});
  EXPECT_EQ(failed.code, 1);
  expect_part(failed.out, "dropped");
  EXPECT_EQ(tests::run_cli({"prewarm", "none.json"}).code, 2);
  EXPECT_EQ(tests::run_cli({"prewarm"}).code, 2);
}

}  // namespace
}  // namespace mlx_kd::runtime
