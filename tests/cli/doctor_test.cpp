#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "mlx_kd/base/json.h"
#include "tests/support/run_cli.h"

namespace mlx_kd::cli {
namespace {

namespace fs = std::filesystem;

class DoctorVerb : public ::testing::Test {
 protected:
  // The findings by topic.
  std::map<std::string, base::Json> examine(std::map<std::string, std::string> variables,
                                            int& exit_code) const {
    variables["MLX_KD_CACHE_DIR"] = place.path();
    const auto result = tests::run_cli({"doctor", "--json"}, {.env = variables});
    exit_code = result.code;
    std::map<std::string, base::Json> findings;
    for (const auto& finding : base::parse_json(result.out, "test", "kd doctor"))
      findings[finding["topic"]] = finding;
    return findings;
  }
  tests::TempDir place;
};

TEST_F(DoctorVerb, FindsAWorkingMachineWorking) {
  int exit_code = -1;
  const auto findings = examine({}, exit_code);
  EXPECT_EQ(exit_code, 0);
  for (const char* topic : {"mlx-kd", "mlx", "memory", "cpu", "compiler", "kernel cache"})
    ASSERT_TRUE(findings.count(topic)) << topic;
  EXPECT_EQ(findings.at("compiler")["level"], "ok");
  EXPECT_TRUE(fs::is_empty(place / "cpu")) << "the probe was left behind";
}

TEST_F(DoctorVerb, AMissingCompilerFailsAndSaysWhatToDo) {
  int exit_code = -1;
  const auto findings = examine({{"MLX_KD_CXX", "/nonexistent/c++"}}, exit_code);
  EXPECT_EQ(exit_code, 1);
  EXPECT_EQ(findings.at("compiler")["level"], "fail");
  EXPECT_FALSE(findings.at("compiler")["advice"].get<std::string>().empty());
}

TEST_F(DoctorVerb, AnUnsafeCacheFails) {
  fs::permissions(place.path(), fs::perms::all);
  int exit_code = -1;
  const auto findings = examine({}, exit_code);
  EXPECT_EQ(exit_code, 1);
  EXPECT_EQ(findings.at("kernel cache")["level"], "fail");
}

}  // namespace
}  // namespace mlx_kd::cli
