#include <gtest/gtest.h>

#include "tests/support/run_cli.h"

namespace mlx_kd::tests {
namespace {

// What the program calls itself, in help, messages and next steps.
TEST(Command, IsNamedAsItWasCalled) {
  CliOptions options;
  options.env["MLX_KD_COMMAND"] = "python -m mlx_kd";
  const auto unknown = run_cli({"run", "--no-such-option"}, options);
  EXPECT_EQ(unknown.code, 2);
  EXPECT_NE(unknown.err.find("see python -m mlx_kd run --help"), std::string::npos) << unknown.err;
  const auto nested = run_cli({"msl", "run"}, options);
  EXPECT_NE(nested.err.find("see python -m mlx_kd msl run --help"), std::string::npos)
      << nested.err;
  const auto both = run_cli({"export"}, options);
  EXPECT_NE(both.err.find("python -m mlx_kd export writes one format"), std::string::npos)
      << both.err;
}

}  // namespace
}  // namespace mlx_kd::tests
