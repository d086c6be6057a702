// kd run for a device that is not here: proved on the executor, times invented.
#include <gtest/gtest.h>

#include "mlx_kd/base/json.h"
#include "tests/support/first_version.h"
#include "tests/support/run_cli.h"

namespace mlx_kd::cli {
namespace {

namespace mx = mlx::core;

std::vector<std::string> arguments(const std::filesystem::path& out,
                                   const std::vector<std::string>& more) {
  std::vector<std::string> all = {
      "run",         "--op", "rmsnorm_residual", "--device", "metal",     "--shapes", "rows=3,D=64",
      "--finalists", "1",    "--quiet",          "--out",    out.string()};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

TEST(RunForMetal, ProvesOnTheExecutorAndPinsWhatZmlxKdLoadsAndRuns) {
  const tests::TempDir folder;
  const auto run = tests::run_cli(arguments(
      folder / "run", {"--prove-on", "simt", "--times", "null", "--budget", "3", "--batch", "3"}));
  ASSERT_EQ(run.code, 0) << run.err;
  EXPECT_EQ(run.err.find("kd install"), std::string::npos) << run.err;

  const auto records = tests::text_of(folder / "run/run.ndjson");
  EXPECT_NE(records.find("\"status\":\"benchmarked\""), std::string::npos);
  const base::Json pack = base::Json::parse(tests::text_of(folder / "run/best_kernels.json"));
  ASSERT_EQ(pack.at("entries").size(), 1u);
  const base::Json& entry = pack["entries"][0];
  EXPECT_EQ(entry["protocol"], "null");
  EXPECT_EQ(entry["key"]["device_arch"], "null");
  EXPECT_EQ(entry["proof"]["races"], "checked");
  EXPECT_EQ(entry["runtime_inputs"]["eps"], 1e-6);
  EXPECT_FALSE(entry.contains("source"));
  EXPECT_EQ(pack["runtime"]["proved_on"], "simt");

  const auto pins = tests::first_version::load(pack);
  const auto pin =
      tests::first_version::find(pins, "rmsnorm_residual", "float16", {{"rows", 3}, {"D", 64}});
  ASSERT_TRUE(pin);
  EXPECT_NE(pin->metal_source.find("constexpr int D = 64;"), std::string::npos);
  const auto ones = mx::ones({3, 64}, mx::float16);
  const auto outputs = tests::first_version::run(*pin, {ones, ones, mx::ones({64}, mx::float16)},
                                                 {{3, 64}, {3, 64}});
  EXPECT_TRUE(mx::allclose(outputs.at(0), ones, 1e-3).item<bool>());  // 2 / sqrt(4 + eps)
  EXPECT_TRUE(mx::array_equal(outputs.at(1), ones + ones).item<bool>());

  // Invented times are never installed.
  const auto install = tests::run_cli(
      {"install", "--run", (folder / "run").string(), "--output", (folder / "pins.json").string()});
  EXPECT_EQ(install.code, 2) << install.err;
}

// Where a cache is updated in place on other devices, the reader of the times has to know.
TEST(RunForMetal, SaysInItsReportsThatMlxCopiesWhatIsUpdated) {
  const std::string remark =
      "On the device metal MLX copies what this operator updates (keys, "
      "values) before every call";
  for (const bool on_metal : {true, false}) {
    const tests::TempDir folder;
    std::vector<std::string> command = {"run",         "--op",
                                        "kv_append",   "--quiet",
                                        "--budget",    "1",
                                        "--finalists", "1",
                                        "--times",     "null",
                                        "--out",       (folder / "run").string(),
                                        "--shapes",    "S=8,B=1,H=1,M=1,Dk=8,Dv=8,ragged=0"};
    for (const char* more :
         on_metal ? std::vector<const char*>{"--device", "metal", "--prove-on", "simt"}
                  : std::vector<const char*>{"--device", "cpu"})
      command.push_back(more);
    const auto run = tests::run_cli(command);
    ASSERT_EQ(run.code, 0) << run.err;
    EXPECT_EQ(run.out.find(remark) != std::string::npos, on_metal) << run.out;
    for (const char* name : {"report.md", "report.html"})
      EXPECT_EQ(tests::text_of(folder / "run" / name).find(remark) != std::string::npos, on_metal)
          << name;
  }
}

TEST(RunForMetal, SaysWhatItTakesWhereThereIsNoAppleGpu) {
  const tests::TempDir folder;
  const auto run = tests::run_cli(arguments(folder / "run", {}));
  if (run.code == 0) GTEST_SKIP() << "there is an Apple GPU";
  EXPECT_EQ(run.code, 2);
  EXPECT_NE(run.err.find("--prove-on simt --times null"), std::string::npos) << run.err;
}

TEST(RunForMetal, RefusesToTimeWhatItProvesElsewhere) {
  const tests::TempDir folder;
  const auto told = [&](const std::vector<std::string>& more) {
    const auto run = tests::run_cli(arguments(folder / "run", more));
    EXPECT_EQ(run.code, 2) << run.err;
    EXPECT_FALSE(std::filesystem::exists(folder / "run"));
    return run.err;
  };
  EXPECT_NE(told({"--prove-on", "simt"}).find("--times null"), std::string::npos);
  EXPECT_NE(told({"--prove-on", "cpu", "--times", "null"}).find("does not run the kernels"),
            std::string::npos);
  EXPECT_NE(told({"--prove-on", "moon", "--times", "null"}).find("'moon' is not known"),
            std::string::npos);
  EXPECT_NE(told({"--times", "never"}).find("--times"), std::string::npos);
}

}  // namespace
}  // namespace mlx_kd::cli
