// kd export through the front door: what other tuners, and kd replay, read of a run.
#include <gtest/gtest.h>

#include "mlx_kd/base/json.h"
#include "tests/support/run_cli.h"

namespace mlx_kd::tests {
namespace {

namespace fs = std::filesystem;
using base::Json;

class Export : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto result = run_cli({"run", "--op", "rmsnorm", "--device", "null", "--budget", "60",
                                 "--strategy", "random", "--quiet", "--out", run().string()});
    ASSERT_EQ(result.code, 0) << result.err;
  }
  fs::path run() const { return dir_ / "run"; }
  static Json replayed(const fs::path& spaces) {
    const auto result = run_cli({"replay", "--spaces", spaces.string(), "--strategy", "random",
                                 "--repeats", "5", "--budgets", "10,60", "--json"});
    EXPECT_EQ(result.code, 0) << result.err;
    return Json::parse(result.out).at("spaces").at(0);
  }
  TempDir dir_;
};

TEST_F(Export, WritesACacheThatReplaysAsTheRunItself) {
  for (const char* name : {"space.json", "space.json.gz"}) {
    const fs::path cache = dir_ / name;
    const auto result = run_cli({"export", "--cache", run().string(), "--out", cache.string()});
    ASSERT_EQ(result.code, 0) << result.err;
    const Json of_cache = replayed(cache), of_run = replayed(run());
    EXPECT_EQ(of_cache["points"], of_run["points"]);
    EXPECT_EQ(of_cache["valid"], of_run["valid"]);
    for (size_t i = 0; i < 2; ++i)
      EXPECT_NEAR(of_cache["regrets"][i]["median"].get<double>(),
                  of_run["regrets"][i]["median"].get<double>(), 1e-9);
    EXPECT_EQ(of_cache["regrets"][1]["median"], 0) << "after the whole space";
  }
}

TEST_F(Export, CompressesWhereTheNameSaysSo) {
  const fs::path plain = dir_ / "space.json", packed = dir_ / "space.json.gz";
  for (const fs::path& out : {plain, packed})
    ASSERT_EQ(run_cli({"export", "--cache", run().string(), "--out", out.string()}).code, 0);
  EXPECT_LT(fs::file_size(packed), fs::file_size(plain) / 3);
}

TEST_F(Export, GivesTimesInMillisecondsAndWhatEachStageTook) {
  const auto result = run_cli({"export", "--cache", run().string()});
  ASSERT_EQ(result.code, 0) << result.err;
  const Json cache = Json::parse(result.out);
  EXPECT_EQ(cache.at("kernel_name"), "rmsnorm");
  EXPECT_EQ(cache.at("objective"), "time");
  EXPECT_EQ(cache.at("cache").size(), 60u);
  for (const auto& [key, entry] : cache.at("cache").items()) {
    for (const auto& name : cache.at("tune_params_keys")) EXPECT_TRUE(entry.contains(name)) << key;
    if (entry.at("time").is_number()) {
      EXPECT_GT(entry["time"].get<double>(), 1e-6) << key;
      EXPECT_LT(entry["time"].get<double>(), 1e3) << key;
    }
    EXPECT_GE(entry.at("compile_time").get<double>(), 0) << key;
  }
}

TEST_F(Export, WritesAT4ResultFile) {
  const auto result = run_cli({"export", "--t4", run().string()});
  ASSERT_EQ(result.code, 0) << result.err;
  const Json file = Json::parse(result.out);
  EXPECT_EQ(file.at("schema_version"), "1.0.0");
  ASSERT_EQ(file.at("results").size(), 60u);
  for (const Json& entry : file["results"]) {
    EXPECT_TRUE(entry.at("configuration").contains("VEC")) << entry;
    EXPECT_EQ(entry.at("correctness") == 1, entry.at("invalidity") == "correct") << entry;
    EXPECT_EQ(entry.at("measurements").size(), entry.at("correctness").get<size_t>()) << entry;
  }
}

TEST_F(Export, RefusesWhatItCannotWrite) {
  const std::string run_dir = run().string();
  EXPECT_EQ(run_cli({"export"}).code, 2);
  EXPECT_EQ(run_cli({"export", "--t4", run_dir, "--cache", run_dir}).code, 2);
  const auto missing = run_cli({"export", "--cache", (dir_ / "nowhere").string()});
  EXPECT_EQ(missing.code, 2);
  EXPECT_NE(missing.err.find("nowhere"), std::string::npos) << missing.err;
  fs::resize_file(run() / "run.ndjson", 0);
  const auto empty = run_cli({"export", "--cache", run_dir});
  EXPECT_EQ(empty.code, 2);
  EXPECT_NE(empty.err.find("measured nothing"), std::string::npos) << empty.err;
}

}  // namespace
}  // namespace mlx_kd::tests
