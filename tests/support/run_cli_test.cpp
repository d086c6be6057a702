#include "tests/support/run_cli.h"

namespace mlx_kd::tests {
namespace {

TEST(RunCli, KeepsTheTwoStreamsAndTheCodeApart) {
  const auto result = run_cli({"-c", "echo data; echo message >&2; exit 3"}, {.program = "sh"});
  EXPECT_EQ(result.code, 3);
  EXPECT_EQ(result.out, "data\n");
  EXPECT_EQ(result.err, "message\n");
}

TEST(RunCli, GivesFolderEnvironmentAndInput) {
  TempDir folder;
  const auto result =
      run_cli({"-c", "pwd -P; echo \"$KD_A-${HOME-none}\"; cat"}, {.cwd = folder.path(),
                                                                   .env = {{"KD_A", "a b"}},
                                                                   .unset = {"HOME"},
                                                                   .input = "typed",
                                                                   .program = "sh"});
  EXPECT_EQ(result.out, std::filesystem::canonical(folder.path()).string() + "\na b-none\ntyped");
}

TEST(RunCli, TellsWhichSignalEndedAProgram) {
  RunningCli sleeper({"60"}, {.program = "sleep"});
  sleeper.signal(SIGTERM);
  EXPECT_EQ(sleeper.wait().code, 128 + SIGTERM);
}

TEST(RunCli, KillsWhatOverrunsItsTime) {
  const auto result = run_cli({"-c", "sleep 60 & wait"}, {.program = "sh", .timeout_s = 0.05});
  EXPECT_TRUE(result.timed_out);
  EXPECT_EQ(result.code, 137);
}

TEST(RunCli, RefusesAProgramThatIsNotThere) {
  EXPECT_THROW(run_cli({}, {.program = "/nonexistent/kd"}), std::system_error);
}

TEST(Program, PrintsItsVersionOnStdout) {
  const auto result = run_cli({"--version"});
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.out.rfind("kd ", 0), 0u) << result.out;
  EXPECT_EQ(result.err, "");
}

TEST(Program, RefusesAnUnknownVerbWithExitTwo) {
  const auto result = run_cli({"frobnicate"});
  EXPECT_EQ(result.code, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_NE(result.err.find("'frobnicate'"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace mlx_kd::tests
