// kd run on search spaces that no kernel of ours has: kd_odd_spaces is kd with other operators.
#include <gtest/gtest.h>

#include <cmath>

#include "mlx_kd/base/json.h"
#include "tests/support/run_cli.h"

namespace mlx_kd::tests {
namespace {

namespace fs = std::filesystem;
using base::Json;

CliResult run_op(const std::string& op, const fs::path& out, const std::string& strategy = "tours",
                 const std::string& budget = "20") {
  return run_cli({"run", "--op", op, "--device", "null", "--strategy", strategy, "--budget", budget,
                  "--seed", "3", "--out", out.string()},
                 {.program = MLX_KD_ODD_SPACES});
}

// The knobs of every evaluation of a run.
std::vector<Json> settings_of(const fs::path& run) {
  std::vector<Json> settings;
  std::istringstream text(text_of(run / "run.ndjson"));
  for (std::string line; std::getline(text, line);) {
    const Json record = Json::parse(line);
    if (record.contains("step")) settings.push_back(record.at("template_params"));
  }
  return settings;
}

TEST(OddSpaces, WhereNothingIsValidTheConstraintToBlameIsNamed) {
  const TempDir dir;
  const auto result = run_op("contradiction", dir / "run");
  EXPECT_EQ(result.code, 2);
  EXPECT_NE(result.err.find("no point of the space is valid"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("constraint 'K0 < K1'"), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(dir / "run"));
}

TEST(OddSpaces, OfManyPointsAndNoneValidSayTheSame) {
  const TempDir dir;
  const auto result = run_op("huge_contradiction", dir / "run");
  EXPECT_EQ(result.code, 2);
  EXPECT_NE(result.err.find("constraint 'K11 > 10"), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(dir / "run"));
}

TEST(OddSpaces, OfOnePointAreSearchedInOneEvaluation) {
  for (const char* strategy : {"tours", "random", "exhaustive", "annealing", "genetic"}) {
    const TempDir dir;
    const auto result = run_op("one_point", dir / "run", strategy);
    ASSERT_EQ(result.code, 0) << strategy << result.err;
    ASSERT_EQ(settings_of(dir / "run").size(), 1u) << strategy;
    EXPECT_EQ(settings_of(dir / "run")[0].at("K2"), 1) << strategy;
  }
}

TEST(OddSpaces, OfAMillionMillionPointsAreSampledAndThatIsSaid) {
  const TempDir dir;
  const auto result = run_op("huge", dir / "run");
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.err.find("1e+12 combinations of knobs"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("drawn at random, each with the same chance"), std::string::npos)
      << result.err;
  const auto settings = settings_of(dir / "run");
  EXPECT_EQ(settings.size(), 20u);
  for (const Json& setting : settings)
    EXPECT_LE(setting.at("K0").get<int>(), setting.at("K1").get<int>());
}

// Of pairs K0 <= K1 each is equally likely, so K1 = 10 ten times as often as K1 = 1; K5 is uniform.
TEST(OddSpaces, AreSampledWithoutBias) {
  const TempDir dir;
  const int count = 2000;
  ASSERT_EQ(run_op("huge", dir / "run", "random", std::to_string(count)).code, 0);
  std::vector<int> k1(11), k5(11);
  for (const Json& setting : settings_of(dir / "run")) {
    ++k1.at(setting.at("K1").get<size_t>());
    ++k5.at(setting.at("K5").get<size_t>());
  }
  for (int value = 1; value <= 10; ++value) {  // within 5 standard deviations
    const double share = value / 55.0, sd = std::sqrt(count * share * (1 - share));
    EXPECT_NEAR(k1[value], count * share, 5 * sd) << value;
    EXPECT_NEAR(k5[value], count * 0.1, 5 * std::sqrt(count * 0.09)) << value;
  }
}

}  // namespace
}  // namespace mlx_kd::tests
