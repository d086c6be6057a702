#include "mlx_kd/cli/replay.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>

#include "mlx_kd/archive/exchange/gzip.h"
#include "mlx_kd/base/json.h"
#include "mlx_kd/base/random.h"
#include "tests/support/run_cli.h"

namespace mlx_kd::cli {
namespace {

namespace fs = std::filesystem;
using base::Json;

// A cache of 6 x 5 x 4 configurations whose best is in the middle.
Json cache_of(const std::string& device, double shift) {
  Json cache = {
      {"device_name", device},
      {"kernel_name", "made_up"},
      {"objective", "time"},
      {"tune_params_keys", {"x", "y", "z"}},
      {"tune_params", {{"x", {1, 2, 4, 8, 16, 32}}, {"y", {1, 2, 3, 4, 5}}, {"z", {0, 1, 2, 3}}}},
      {"cache", Json::object()}};
  for (int i = 0; i < 6; ++i)
    for (int y = 1; y <= 5; ++y)
      for (int z = 0; z < 4; ++z) {
        const int x = 1 << i;
        const std::string key =
            std::to_string(x) + "," + std::to_string(y) + "," + std::to_string(z);
        const double off =
            (i - 3 - shift) * (i - 3 - shift) + 0.7 * std::abs(y - 2) + 0.4 * (3 - z);
        Json entry = {{"x", x},
                      {"y", y},
                      {"z", z},
                      {"compile_time", 100 + 10 * z},
                      {"framework_time", 1},
                      {"strategy_time", 0},
                      {"verification_time", 2}};
        if (i == 5 && y == 5) {
          entry["time"] = "CompilationFailedConfig";
        } else {
          entry["time"] = 1 + off;
          entry["times"] = {1 + off, 1 + off};
        }
        cache["cache"][key] = entry;
      }
  return cache;
}

class ReplayVerb : public ::testing::Test {
 protected:
  ReplayVerb() {
    fs::create_directory(spaces_ / "made_up");
    std::ofstream(spaces_ / "made_up/A.json") << cache_of("A", 0).dump();
    std::ofstream(spaces_ / "made_up/B.json") << cache_of("B", 0.2).dump();
    std::ofstream(spaces_ / "made_up.T1.json") << "{}";  // a description, no cache
  }
  tests::CliResult kd(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"replay", "--spaces", spaces_.path().string()});
    return tests::run_cli(arguments);
  }
  tests::TempDir spaces_;
};

TEST_F(ReplayVerb, PrintsTheScoreOfEachSpaceAndTheirMean) {
  const auto result = kd({"--repeats", "5"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.out.find("made_up/A"), std::string::npos);
  EXPECT_NE(result.out.find("made_up/B"), std::string::npos);
  EXPECT_NE(result.out.find("mean "), std::string::npos);
}

TEST_F(ReplayVerb, IsTheSameForTheSameSeed) {
  const auto first = kd({"--repeats", "4", "--seed", "7", "--json"});
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_EQ(first.out, kd({"--repeats", "4", "--seed", "7", "--json"}).out);
  EXPECT_NE(first.out, kd({"--repeats", "4", "--seed", "8", "--json"}).out);
}

TEST_F(ReplayVerb, ScoresToursAboveRandom) {
  const auto mean = [&](const std::string& strategy) {
    const auto result = kd({"--strategy", strategy, "--repeats", "20", "--json"});
    return Json::parse(result.out).at("mean").get<double>();
  };
  EXPECT_GT(mean("tours"), mean("random") + 0.2);
}

TEST_F(ReplayVerb, StartsBetterWarm) {
  const auto cold = kd({"--repeats", "20", "--json"});
  const auto warm = kd({"--repeats", "20", "--json", "--warm"});
  ASSERT_EQ(warm.code, 0) << warm.err;
  EXPECT_GT(Json::parse(warm.out).at("mean").get<double>(),
            Json::parse(cold.out).at("mean").get<double>());
}

TEST_F(ReplayVerb, TellsTheRegretAfterGivenBudgets) {
  const auto text = kd({"--repeats", "20", "--budgets", "5,30,120"});
  ASSERT_EQ(text.code, 0) << text.err;
  EXPECT_NE(text.out.find("after 30"), std::string::npos) << text.out;
  const auto json = kd({"--repeats", "20", "--budgets", "5,30,120", "--json"});
  const Json said = Json::parse(json.out);
  for (const Json& space : said.at("spaces")) {
    const Json& regrets = space.at("regrets");
    ASSERT_EQ(regrets.size(), 3u);
    double before = HUGE_VAL;
    for (const Json& regret : regrets) {
      const double median = regret.at("median").get<double>();
      EXPECT_LE(regret.at("lo").get<double>(), median);
      EXPECT_GE(regret.at("hi").get<double>(), median);
      EXPECT_LE(median, before);
      before = median;
    }
    EXPECT_EQ(regrets[2].at("budget"), 120);
    EXPECT_EQ(before, 0) << "the whole space was seen";
  }
  EXPECT_FALSE(Json::parse(kd({"--json"}).out).at("spaces")[0].contains("regrets"));
}

// With single times that differ by a factor of nine, what looks best seldom is.
TEST_F(ReplayVerb, CanShowOneMeasurementAtATime) {
  Json cache = cache_of("D", 0);
  for (auto& [key, entry] : cache["cache"].items())
    if (entry["time"].is_number()) {
      const double time = entry["time"].get<double>();
      entry["times"] = {time / 3, time, 3 * time};
    }
  const fs::path file = spaces_ / "noisy.json";
  std::ofstream(file) << cache.dump();
  const auto regret = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"replay", "--spaces", file.string(), "--repeats", "40", "--budgets",
                               "100", "--json"});
    const auto result = tests::run_cli(more);
    EXPECT_EQ(result.code, 0) << result.err;
    const Json said = Json::parse(result.out);
    EXPECT_EQ(said.at("once").get<bool>(), more.back() == "--once");
    return said["spaces"][0]["regrets"][0]["median"].get<double>();
  };
  EXPECT_EQ(regret({}), 0);
  EXPECT_GT(regret({"--once"}), 0);
}

TEST_F(ReplayVerb, HasARegretOfNullWhereNothingValidWasFound) {
  Json cache = cache_of("D", 0);
  for (auto& [key, entry] : cache["cache"].items())
    if (key != "8,2,3" && key != "32,4,0" && key != "32,4,1") entry["time"] = "RuntimeFailedConfig";
  const fs::path file = spaces_ / "mostly_failed.json";
  std::ofstream(file) << cache.dump();
  const auto result = tests::run_cli({"replay", "--spaces", file.string(), "--strategy", "random",
                                      "--repeats", "10", "--budgets", "1", "--json"});
  ASSERT_EQ(result.code, 0) << result.err;
  const Json space = Json::parse(result.out)["spaces"][0];
  EXPECT_TRUE(space["regrets"][0]["median"].is_null());
  EXPECT_TRUE(space["score"].is_null());
  EXPECT_NE(result.err.find(": too few points to score (3)"), std::string::npos) << result.err;
  EXPECT_EQ(space["unscored"].get<std::string>().find("too few points to score (3)"), 0u);
}

// 3,000 settings, every tenth of them failed; `cost` is what compiling one takes.
Json large_cache(const std::function<double(int)>& cost) {
  Json cache = {{"device_name", "E"},
                {"kernel_name", "made_up"},
                {"objective", "time"},
                {"tune_params_keys", {"x", "y"}},
                {"tune_params", {{"x", Json::array()}, {"y", Json::array()}}},
                {"cache", Json::object()}};
  base::Random random(3);
  for (int x = 0; x < 60; ++x) cache["tune_params"]["x"].push_back(x);
  for (int y = 0; y < 50; ++y) cache["tune_params"]["y"].push_back(y);
  for (int i = 0; i < 3000; ++i) {
    const double time = 1 + 3 * std::sqrt(random.uniform());
    Json entry = {{"x", i / 50},         {"y", i % 50},        {"compile_time", cost(i)},
                  {"framework_time", 0}, {"strategy_time", 0}, {"verification_time", 0},
                  {"times", {time}}};
    entry["time"] = i % 10 == 9 ? Json("CompilationFailedConfig") : Json(time);
    cache["cache"][std::to_string(i / 50) + "," + std::to_string(i % 50)] = entry;
  }
  return cache;
}

class SanityVerb : public ::testing::Test {
 protected:
  tests::CliResult replayed(const Json& cache, const std::string& strategy, int repeats) const {
    const fs::path file = folder_ / "large.json";
    std::ofstream(file) << cache.dump();
    return tests::run_cli({"replay", "--spaces", file.string(), "--strategy", strategy, "--repeats",
                           std::to_string(repeats), "--json"});
  }
  tests::TempDir folder_;
};

TEST_F(SanityVerb, HoldsOfASoundRecording) {
  const Json sound = large_cache([](int i) { return 100.0 + i % 7; });
  const auto random = replayed(sound, "random", 50);
  ASSERT_EQ(random.code, 0) << random.err;
  EXPECT_EQ(Json::parse(random.out).at("sanity"),
            (Json{{"no_score_above_one", true}, {"random_about_zero", true}}));
  EXPECT_NEAR(Json::parse(random.out).at("mean").get<double>(), 0, 0.15);
  for (const char* strategy : {"tours", "exhaustive", "annealing", "genetic"}) {
    const auto other = replayed(sound, strategy, 3);
    ASSERT_EQ(other.code, 0) << other.err;
    const Json said = Json::parse(other.out);
    EXPECT_LE(said.at("mean").get<double>(), 1) << strategy;
    EXPECT_TRUE(said["sanity"]["no_score_above_one"].get<bool>()) << strategy;
    EXPECT_TRUE(said["sanity"]["random_about_zero"].is_null()) << strategy;
  }
}

TEST_F(SanityVerb, OfTooFewRepeatsIsNotAsked) {
  const auto few = replayed(large_cache([](int) { return 100.0; }), "random", 5);
  ASSERT_EQ(few.code, 0) << few.err;
  EXPECT_TRUE(Json::parse(few.out)["sanity"]["random_about_zero"].is_null());
}

// One configuration in ten costs a thousand times the others: the mean says nothing of what random
// search gets for its time, and it scores far above 0.
TEST_F(SanityVerb, ThatIsBrokenIsSaidAndEndsWith1AfterTheScores) {
  const auto broken =
      replayed(large_cache([](int i) { return i % 10 == 0 ? 100000.0 : 100.0; }), "random", 50);
  EXPECT_EQ(broken.code, 1);
  EXPECT_NE(broken.err.find("cannot be trusted"), std::string::npos) << broken.err;
  EXPECT_NE(broken.err.find("large scores"), std::string::npos) << broken.err;
  const Json said = Json::parse(broken.out);
  EXPECT_FALSE(said["sanity"]["random_about_zero"].get<bool>());
  EXPECT_GT(said["mean"].get<double>(), 0.15);
}

TEST(SanityOf, NamesAScoreAboveOne) {
  ReplayScores scores;
  scores.spaces.resize(2);
  scores.spaces[0].name = "a/fine";
  scores.spaces[0].score = 1;
  scores.spaces[1].name = "b/wrong";
  scores.spaces[1].score = 1.01;
  const Sanity sanity = sanity_of({}, scores);
  ASSERT_EQ(sanity.above_one.size(), 1u);
  EXPECT_NE(sanity.above_one[0].find("b/wrong scores 1.01"), std::string::npos);
}

TEST_F(ReplayVerb, WritesOneSelfContainedPage) {
  const fs::path page = spaces_ / "page.html";
  ASSERT_EQ(kd({"--repeats", "3", "--html", page.string()}).code, 0);
  const std::string text = tests::text_of(page);
  EXPECT_NE(text.find("<svg"), std::string::npos);
  EXPECT_NE(text.find("made_up/B"), std::string::npos);
  EXPECT_NE(text.find("prefers-color-scheme: dark"), std::string::npos);
  EXPECT_EQ(text.find("http"), std::string::npos);  // nothing is fetched
}

TEST_F(ReplayVerb, RefusesWhatCannotBeMeant) {
  const auto refused = [&](const std::vector<std::string>& arguments, const std::string& word) {
    const auto result = kd(arguments);
    EXPECT_EQ(result.code, 2) << word;
    EXPECT_NE(result.err.find(word), std::string::npos) << result.err;
  };
  refused({"--repeats", "0"}, "--repeats");
  refused({"--repeats", "-3"}, "-3");
  refused({"--batch", "0"}, "--batch");
  refused({"--budgets", "50,0"}, "--budgets");
  refused({"--budgets", "many"}, "--budgets");
  refused({"--strategy", "climbing"}, "'tours', 'random'");
  refused({"--strategy", "random", "--warm"}, "warm start");
  std::ofstream(spaces_ / "made_up/C.json") << "{";
  refused({"--repeats", "1"}, "C.json");
  EXPECT_EQ(tests::run_cli({"replay", "--spaces", (spaces_ / "nowhere").string()}).code, 2);
  EXPECT_EQ(tests::run_cli({"replay"}).code, 2);
}

TEST_F(ReplayVerb, RefusesASpaceThatNoScoreCanBeGivenFor) {
  Json cache = cache_of("D", 0);
  for (auto& [key, entry] : cache["cache"].items())
    if (key != "8,2,3") entry["time"] = "RuntimeFailedConfig";
  std::ofstream(spaces_ / "made_up/D.json") << cache.dump();
  const auto result = kd({"--repeats", "1"});
  EXPECT_EQ(result.code, 2);
  EXPECT_NE(result.err.find("made_up/D"), std::string::npos) << result.err;
}

TEST_F(ReplayVerb, RefusesCachesThatAreNone) {
  const fs::path file = spaces_ / "bad.json";
  const auto refused = [&](const std::string& bytes, const std::string& word) {
    std::ofstream(file, std::ios::binary) << bytes;
    const auto result = tests::run_cli({"replay", "--spaces", file.string(), "--repeats", "1"});
    EXPECT_EQ(result.code, 2) << word << result.err;
    EXPECT_NE(result.err.find(word), std::string::npos) << result.err;
    EXPECT_NE(result.err.find("bad.json"), std::string::npos) << result.err;
  };
  const Json good = cache_of("A", 0);
  for (const char* field : {"tune_params_keys", "tune_params", "cache"}) {
    Json cache = good;
    cache.erase(field);
    refused(cache.dump(), field);
  }
  Json energy = good;
  energy["objective"] = "energy";
  refused(energy.dump(), "energy");
  for (const Json& time : {Json(0), Json(-1.5), Json("NaN"), Json(nullptr)}) {
    Json cache = good;
    cache["cache"]["8,2,3"]["time"] = time;
    refused(cache.dump(), "8,2,3");
  }
  Json failed = good;
  for (auto& [key, entry] : failed["cache"].items()) entry["time"] = "RuntimeFailedConfig";
  refused(failed.dump(), "valid");
  std::string nan = good.dump();
  const size_t time = nan.find("\"time\":1.") + 7;
  nan.replace(time, nan.find_first_of(",}", time) - time, "NaN");
  refused(nan, "JSON");
  refused("\x1f\x8b\x08", "cut short");
  const std::string packed = archive::gzip(good.dump());
  refused(packed.substr(0, packed.size() / 2), "cut short");
}

TEST_F(ReplayVerb, RefusesASpaceOfOnePoint) {
  Json cache = cache_of("D", 0);
  cache["cache"] = {{"8,2,3", cache["cache"]["8,2,3"]}};
  const fs::path file = spaces_ / "one.json";
  std::ofstream(file) << cache.dump();
  const auto result = tests::run_cli({"replay", "--spaces", file.string(), "--repeats", "1"});
  EXPECT_EQ(result.code, 2);
  EXPECT_NE(result.err.find("one"), std::string::npos) << result.err;
}

// The recorded spaces of two kernels on six GPUs, where they are there.
fs::path recorded_spaces() {
  const char* place = std::getenv("MLX_KD_TUNING_SPACES");
  return place ? fs::path(place) : fs::path(MLX_KD_SOURCE_DIR) / "../shared/tuning_spaces";
}

class RecordedSpaces : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!fs::is_directory(recorded_spaces()))
      GTEST_SKIP() << recorded_spaces() << " is absent: set MLX_KD_TUNING_SPACES";
  }
  static Json scores(const std::vector<std::string>& more, const fs::path& place) {
    std::vector<std::string> arguments = {"replay", "--json", "--spaces", place.string()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const auto result = tests::run_cli(arguments, {.timeout_s = 1800});
    EXPECT_EQ(result.code, 0) << result.err;
    return Json::parse(result.out);
  }
};

TEST_F(RecordedSpaces, OneIsReadAndScored) {
  const Json scored =
      scores({"--repeats", "10"}, recorded_spaces() / "convolution_milo/W6600.json.gz");
  EXPECT_EQ(scored["spaces"][0]["space"], "convolution_milo/W6600");
  EXPECT_EQ(scored["spaces"][0]["points"], 4362);
  EXPECT_GT(scored["mean"].get<double>(), 0.3);
}

TEST_F(RecordedSpaces, GiveToursTheScoreThatTheDocumentsState) {
  if (!std::getenv("MLX_KD_LONG")) GTEST_SKIP() << "takes minutes: set MLX_KD_LONG=1";
  const Json tours = scores({}, recorded_spaces());
  EXPECT_GT(tours["mean"].get<double>(), 0.79);
  EXPECT_GT(tours["lo"].get<double>(), 0.75);
  for (const Json& space : tours["spaces"]) EXPECT_GT(space["score"].get<double>(), 0.40);
}

TEST_F(RecordedSpaces, GiveRandomSearchAboutZeroWhereBudgetsAreLarge) {
  if (!std::getenv("MLX_KD_LONG")) GTEST_SKIP() << "takes minutes: set MLX_KD_LONG=1";
  const Json random = scores({"--strategy", "random", "--repeats", "100"}, recorded_spaces());
  for (const Json& space : random["spaces"])
    if (space["evaluations"].get<double>() > 150) {
      EXPECT_NEAR(space["score"].get<double>(), 0, 0.15) << space;
    }
}

}  // namespace
}  // namespace mlx_kd::cli
