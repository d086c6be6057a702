#include <gtest/gtest.h>

#include "mlx_kd/base/process.h"

namespace {

mlx_kd::base::ProcessResult kd(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), MLX_KD_PROGRAM);
  return mlx_kd::base::run_process(arguments, 120);
}

TEST(Verify, ProvesDefaultsAndRandomCandidatesWithoutTimes) {
  const auto result = kd({"verify", "--op", "rmsnorm", "--shapes", "rows=3,D=100", "--candidates",
                          "2", "--dtype", "bfloat16"});
  EXPECT_EQ(result.exit_code, 0) << result.output;
  size_t proved = 0;
  for (size_t at = 0; (at = result.output.find("proved", at)) != std::string::npos; ++at) ++proved;
  EXPECT_EQ(proved, 3u) << result.output;
}

TEST(Verify, MisuseIsExitTwo) {
  EXPECT_EQ(kd({"verify"}).exit_code, 2);
  EXPECT_EQ(kd({"verify", "--op", "nothing"}).exit_code, 2);
  EXPECT_EQ(kd({"verify", "--op", "rmsnorm", "--dtype", "int8"}).exit_code, 2);
  EXPECT_EQ(kd({"verify", "--op", "rmsnorm", "--device", "abacus"}).exit_code, 2);
  EXPECT_EQ(kd({"verify", "--op", "rmsnorm", "--candidates", "-1"}).exit_code, 2);
  EXPECT_EQ(kd({"verify", "--op", "rmsnorm", "--shapes", "rows=0,D=4"}).exit_code, 2);
}

TEST(Verify, TheWorkerIsHiddenFromHelp) {
  EXPECT_EQ(kd({"--help"}).output.find("worker"), std::string::npos);
  EXPECT_NE(kd({"--help"}).output.find("verify"), std::string::npos);
}

}  // namespace
