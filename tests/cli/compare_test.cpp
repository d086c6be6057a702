#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "run_folder.h"

namespace mlx_kd::cli {
namespace {

TEST(KdCompare, PrintsRatiosAndWhatMoved) {
  RunFolder folder;
  folder.put_run("a", "rmsnorm", 8);
  folder.put_run("b", "rmsnorm", 4);
  const std::string both = "'" + (folder / "a") + "' '" + (folder / "b") + "'";
  const Outcome outcome = kd("compare " + both);
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_NE(outcome.out.find("0.500"), std::string::npos) << outcome.out;
  const auto json = nlohmann::json::parse(kd("compare --json " + both).out);
  EXPECT_EQ(json["sizes"][0]["kernel_ratio"]["value"], 0.5);
  EXPECT_EQ(json["sizes"][0]["same_winner"], false);
  EXPECT_EQ(json["sizes"][0]["b"]["candidate_id"], "c4");
}

TEST(KdCompare, RefusesRunsOfTwoOps) {
  RunFolder folder;
  folder.put_run("a", "rmsnorm", 8);
  folder.put_run("b", "swiglu", 4);
  const Outcome outcome = kd("compare '" + (folder / "a") + "' '" + (folder / "b") + "' 2>&1");
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_NE(outcome.out.find("'rmsnorm' and op 'swiglu'"), std::string::npos) << outcome.out;
  EXPECT_EQ(kd("compare '" + (folder / "a") + "' 2>/dev/null").exit_code, 2);
}

}  // namespace
}  // namespace mlx_kd::cli
