// kd run through the front door, on the null device: what it writes, how it ends, what it refuses.
#include <gtest/gtest.h>

#include <algorithm>

#include "mlx_kd/base/json.h"
#include "tests/support/run_cli.h"

namespace mlx_kd::tests {
namespace {

namespace fs = std::filesystem;
using base::Json;

std::vector<std::string> run_args(const fs::path& out, const std::string& budget,
                                  std::vector<std::string> more = {}) {
  std::vector<std::string> args = {"run",  "--op",   "rmsnorm", "--device", "null",      "--budget",
                                   budget, "--seed", "7",       "--out",    out.string()};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

std::vector<std::string> lines_of(const fs::path& file) {
  std::vector<std::string> result;
  std::istringstream text(text_of(file));
  for (std::string line; std::getline(text, line);) result.push_back(line);
  return result;
}

// What a record says of the walk: everything but when it was written.
std::vector<std::string> walk_of(const fs::path& run) {
  std::vector<std::string> result;
  for (const auto& line : lines_of(run / "run.ndjson")) {
    Json record = Json::parse(line);
    if (record.value("event", "") == "finish") continue;
    record.erase("ts");
    result.push_back(record.dump());
  }
  return result;
}

TEST(Run, LeavesAWholeRunDirectoryAndATable) {
  const TempDir dir;
  const auto result = run_cli(run_args(dir / "run", "24"));
  ASSERT_EQ(result.code, 0) << result.err;
  for (const char* name :
       {"run_meta.json", "run.ndjson", "best_kernels.json", "report.md", "report.html"})
    EXPECT_TRUE(fs::exists(dir / "run" / name)) << name;
  EXPECT_EQ(walk_of(dir / "run").size(), 24u);
  EXPECT_NE(result.out.find("rows=1024,D=2048"), std::string::npos) << result.out;
  EXPECT_NE(result.err.find("24/24"), std::string::npos) << result.err;
}

TEST(Run, RefusesSizesThatNoMemoryHolds) {
  const TempDir dir;
  const auto result = run_cli({"run", "--op", "rmsnorm", "--budget", "2", "--shapes",
                               "rows=1000000000,D=4096", "--out", (dir / "run").string()});
  EXPECT_EQ(result.code, 2);
  EXPECT_NE(result.err.find("give smaller sizes"), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(dir / "run"));
}

TEST(Run, AVerbThatIsNotKnownIsNamedBesideTheKnown) {
  const auto result = run_cli({"rum", "--op", "rmsnorm"});
  EXPECT_EQ(result.code, 2);
  EXPECT_NE(result.err.find("verb 'rum' is not known"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("'run'"), std::string::npos) << result.err;
  EXPECT_EQ(result.err.find("'worker'"), std::string::npos) << result.err;
}

TEST(Run, JsonOnStdoutIsJsonAlone) {
  const TempDir dir;
  const auto result = run_cli(run_args(dir / "run", "10", {"--json", "--quiet"}));
  ASSERT_EQ(result.code, 0) << result.err;
  const Json outcome = Json::parse(result.out);
  EXPECT_EQ(outcome.at("evaluated"), 10);
  EXPECT_EQ(outcome.at("sizes").size(), 4u);
}

TEST(Run, TheSameSeedWalksTheSameWay) {
  const TempDir dir;
  ASSERT_EQ(run_cli(run_args(dir / "a", "40")).code, 0);
  ASSERT_EQ(run_cli(run_args(dir / "b", "40")).code, 0);
  EXPECT_EQ(walk_of(dir / "a"), walk_of(dir / "b"));
  EXPECT_EQ(text_of(dir / "a" / "best_kernels.json"), text_of(dir / "b" / "best_kernels.json"));
}

class Resumed : public testing::TestWithParam<size_t> {};

// A run cut after any number of bytes of its log goes on and ends as if nothing had happened.
TEST_P(Resumed, EndsWithTheBytesOfAnUnbrokenRun) {
  const TempDir dir;
  ASSERT_EQ(run_cli(run_args(dir / "whole", "40")).code, 0);
  fs::create_directory(dir / "cut");
  fs::copy(dir / "whole" / "run_meta.json", dir / "cut" / "run_meta.json");
  const std::string log = text_of(dir / "whole" / "run.ndjson");
  std::ofstream(dir / "cut" / "run.ndjson", std::ios::binary)
      << log.substr(0, log.size() * GetParam() / 100);
  const auto resumed = run_cli(run_args(dir / "cut", "40", {"--resume"}));
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_EQ(walk_of(dir / "cut"), walk_of(dir / "whole"));
  EXPECT_EQ(text_of(dir / "cut" / "best_kernels.json"),
            text_of(dir / "whole" / "best_kernels.json"));
}
INSTANTIATE_TEST_SUITE_P(AtPercentOfTheLog, Resumed, testing::Values(0, 13, 37, 50, 71, 99));

TEST(Run, KillMinusNineAtAnyMomentCostsNothing) {
  const TempDir dir;
  ASSERT_EQ(run_cli(run_args(dir / "whole", "120")).code, 0);
  for (int delay_ms : {5, 20, 60, 150}) {
    const fs::path out = dir / ("killed" + std::to_string(delay_ms));
    RunningCli run(run_args(out, "120"));
    std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
    run.signal(SIGKILL);
    run.wait();
    const auto resumed = run_cli(run_args(out, "120", {"--resume"}));
    ASSERT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_EQ(text_of(out / "best_kernels.json"), text_of(dir / "whole" / "best_kernels.json"));
  }
}

TEST(Run, CtrlCEndsCleanlyWith130AndCanBeResumed) {
  const TempDir dir;
  RunningCli run(run_args(dir / "run", "100000"));
  while (!run.ended() && lines_of(dir / "run" / "run.ndjson").size() < 5)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  run.signal_group(SIGINT);
  const auto stopped = run.wait();
  EXPECT_EQ(stopped.code, 130) << stopped.err;
  EXPECT_NE(stopped.err.find("--resume"), std::string::npos) << stopped.err;
  const size_t found = walk_of(dir / "run").size();
  EXPECT_GE(found, 5u);
  EXPECT_EQ(run_cli({"report", "--run", (dir / "run").string()}).code, 0);
  const auto resumed = run_cli(run_args(dir / "run", std::to_string(found + 3), {"--resume"}));
  EXPECT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_EQ(walk_of(dir / "run").size(), found + 3);
}

TEST(Run, ATerminalThatGoesAwayEndsItLikeCtrlC) {
  const TempDir dir;
  RunningCli run(run_args(dir / "run", "100000"));
  while (!run.ended() && lines_of(dir / "run" / "run.ndjson").size() < 5)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  run.signal(SIGHUP);
  EXPECT_EQ(run.wait().code, 129);
  EXPECT_EQ(run_cli({"report", "--run", (dir / "run").string()}).code, 0);
}

TEST(Run, AClosedPipeIsNoFailureOfTheRun) {
  const TempDir dir;
  const std::string command = std::string("'") + MLX_KD_PROGRAM +
                              "' run --op rmsnorm --device null --budget 10 --out '" +
                              (dir / "run").string() + "' 2>&1 | true; exit ${PIPESTATUS[0]}";
  EXPECT_EQ(run_cli({"-c", command}, {.program = "bash"}).code, 0);
  EXPECT_TRUE(fs::exists(dir / "run" / "best_kernels.json"));
}

TEST(Run, AnotherRunInTheSameFolderIsRefusedWhileOneIsInProgress) {
  const TempDir dir;
  RunningCli run(run_args(dir / "run", "100000"));
  while (!run.ended() && !fs::exists(dir / "run" / "run.ndjson"))
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const auto second = run_cli(run_args(dir / "run", "10", {"--resume"}));
  EXPECT_EQ(second.code, 2) << second.err;
  run.signal(SIGINT);
  EXPECT_EQ(run.wait().code, 130);
}

TEST(Run, ATimeBudgetEndsTheSearchEarly) {
  const TempDir dir;
  const auto result =
      run_cli(run_args(dir / "run", "100000", {"--time-budget", "0.3s", "--json", "--quiet"}));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_LT(Json::parse(result.out).at("evaluated"), 100000);
}

TEST(Run, ABudgetBeyondTheSpaceEndsWithTheSpace) {
  const TempDir dir;
  const auto result =
      run_cli({"run", "--op", "rope", "--device", "null", "--budget", "3000000", "--strategy",
               "random", "--time-budget", "1s", "--out", (dir / "run").string()});
  EXPECT_EQ(result.code, 0) << result.err;
}

struct Refused {
  const char* what;
  std::vector<std::string> args;  // after "run"; OUT is replaced by the folder
  const char* says;
};

class RunRefuses : public testing::TestWithParam<Refused> {};

TEST_P(RunRefuses, WithExit2AndWritesNothing) {
  const TempDir dir;
  std::ofstream(dir / "empty.json");
  std::ofstream(dir / "text.json") << "rows";
  std::ofstream(dir / "zero.json") << R"([{"rows": 0, "D": 4}])";
  std::vector<std::string> args = {"run", "--out", (dir / "run").string()};
  args.insert(args.end(), GetParam().args.begin(), GetParam().args.end());
  if (std::count(args.begin(), args.end(), "--device") == 0)
    args.insert(args.end(), {"--device", "null"});
  const auto result = run_cli(args, {.cwd = dir.path()});
  EXPECT_EQ(result.code, 2) << result.err;
  EXPECT_NE(result.err.find(GetParam().says), std::string::npos) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_FALSE(fs::exists(dir / "run"));
}

INSTANTIATE_TEST_SUITE_P(
    BadInput, RunRefuses,
    testing::Values(
        Refused{"op", {"--op", "nope"}, "rmsnorm_residual"}, Refused{"no_op", {}, "--op"},
        Refused{"suite", {"--op", "rmsnorm", "--shapes", "nope"}, "glm_flash_decode"},
        Refused{"suite_of_another_op",
                {"--op", "rmsnorm", "--shapes", "lfm2_decode"},
                "glm_flash_decode"},
        Refused{"dtype", {"--op", "rmsnorm", "--dtype", "int8"}, "bfloat16"},
        Refused{"device", {"--op", "rmsnorm", "--device", "tpu"}, "cpu"},
        Refused{"option", {"--op", "rmsnorm", "--fast"}, "--fast"},
        Refused{"strategy", {"--op", "rmsnorm", "--strategy", "luck"}, "tours"},
        Refused{"budget_zero", {"--op", "rmsnorm", "--budget", "0"}, "--budget"},
        Refused{"budget_negative", {"--op", "rmsnorm", "--budget", "-3"}, "--budget"},
        Refused{"budget_text", {"--op", "rmsnorm", "--budget", "many"}, "--budget"},
        Refused{"time_budget", {"--op", "rmsnorm", "--time-budget", "soon"}, "60s"},
        Refused{"fraction", {"--op", "rmsnorm", "--exploit-fraction", "1.5"}, "exploit"},
        Refused{"zero_size", {"--op", "rmsnorm", "--shapes", "rows=0,D=4"}, "rows"},
        Refused{"negative_size", {"--op", "rmsnorm", "--shapes", "rows=-1,D=4"}, "rows"},
        Refused{
            "huge_size", {"--op", "rmsnorm", "--shapes", "rows=4000000000,D=4000000000"}, "rows"},
        Refused{"missing_size", {"--op", "rmsnorm", "--shapes", "rows=1"}, "D"},
        Refused{"unknown_size", {"--op", "rmsnorm", "--shapes", "rows=1,D=2,E=3"}, "E"},
        Refused{"odd_rope", {"--op", "rope", "--shapes", "B=1,H_Q=2,D_NOPE=4,D_ROPE=3"}, "D_ROPE"},
        Refused{"no_file", {"--op", "rmsnorm", "--shapes", "missing.json"}, "missing.json"},
        Refused{"empty_file", {"--op", "rmsnorm", "--shapes", "empty.json"}, "empty.json"},
        Refused{"not_json", {"--op", "rmsnorm", "--shapes", "text.json"}, "text.json"},
        Refused{"zero_in_file", {"--op", "rmsnorm", "--shapes", "zero.json"}, "rows"}),
    [](const auto& test) { return std::string(test.param.what); });

TEST(Run, RefusesFoldersThatAreNotItsOwn) {
  const TempDir dir;
  fs::create_directory(dir / "full");
  std::ofstream(dir / "full" / "notes.txt") << "mine";
  std::ofstream(dir / "file") << "mine";
  EXPECT_EQ(run_cli(run_args(dir / "full", "4")).code, 2);
  EXPECT_EQ(run_cli(run_args(dir / "file", "4")).code, 2);
  EXPECT_EQ(std::distance(fs::directory_iterator(dir / "full"), {}), 1);
  ASSERT_EQ(run_cli(run_args(dir / "run", "4")).code, 0);
  const std::string before = text_of(dir / "run" / "run.ndjson");
  EXPECT_EQ(run_cli(run_args(dir / "run", "4")).code, 2) << "a finished run without --resume";
  EXPECT_EQ(text_of(dir / "run" / "run.ndjson"), before);
}

TEST(Run, ResumeOfAnotherRequestSaysWhichFieldsDiffer) {
  const TempDir dir;
  ASSERT_EQ(run_cli(run_args(dir / "run", "4")).code, 0);
  const std::string before = text_of(dir / "run" / "run.ndjson");
  const std::string out = (dir / "run").string();
  const auto other_seed = run_cli(
      {"run", "--op", "rmsnorm", "--device", "null", "--seed", "8", "--out", out, "--resume"});
  EXPECT_EQ(other_seed.code, 2);
  EXPECT_NE(other_seed.err.find("seed"), std::string::npos) << other_seed.err;
  const auto other_op = run_cli(
      {"run", "--op", "swiglu", "--device", "null", "--seed", "7", "--out", out, "--resume"});
  EXPECT_EQ(other_op.code, 2);
  EXPECT_NE(other_op.err.find("op"), std::string::npos) << other_op.err;
  EXPECT_EQ(text_of(dir / "run" / "run.ndjson"), before);
}

TEST(Run, GarbageInTheMiddleOfTheLogIsNamedByItsLine) {
  const TempDir dir;
  ASSERT_EQ(run_cli(run_args(dir / "run", "6")).code, 0);
  auto lines = lines_of(dir / "run" / "run.ndjson");
  lines[2] = "garbage";
  std::ofstream log(dir / "run" / "run.ndjson");
  for (const auto& line : lines) log << line << "\n";
  log.close();
  const auto result = run_cli(run_args(dir / "run", "6", {"--resume"}));
  EXPECT_EQ(result.code, 2);
  EXPECT_NE(result.err.find("line 3"), std::string::npos) << result.err;
}

TEST(Run, LearnsFromAnEarlierRunOfAnotherType) {
  const TempDir dir;
  ASSERT_EQ(run_cli(run_args(dir / "first", "80", {"--dtype", "float32"})).code, 0);
  const auto warm =
      run_cli(run_args(dir / "warm", "8", {"--warm-start", (dir / "first").string()}));
  ASSERT_EQ(warm.code, 0) << warm.err;
  EXPECT_NE(warm.err.find("guide the first"), std::string::npos) << warm.err;
  ASSERT_EQ(run_cli(run_args(dir / "cold", "8")).code, 0);
  EXPECT_NE(walk_of(dir / "warm"), walk_of(dir / "cold"));
  const auto other = run_cli({"run", "--op", "swiglu", "--device", "null", "--warm-start",
                              (dir / "first").string(), "--out", (dir / "other").string()});
  EXPECT_EQ(other.code, 2) << other.err;
  EXPECT_FALSE(fs::exists(dir / "other"));
}

TEST(Run, LearnsFromAPackOfWinners) {
  const TempDir dir;
  ASSERT_EQ(run_cli(run_args(dir / "first", "80", {"--dtype", "float32"})).code, 0);
  const std::string pack = (dir / "first" / "best_kernels.json").string();
  const auto warm = run_cli(run_args(dir / "warm", "8", {"--warm-start", pack}));
  ASSERT_EQ(warm.code, 0) << warm.err;
  EXPECT_NE(warm.err.find("pinned kernels guide the first"), std::string::npos) << warm.err;
  ASSERT_EQ(run_cli(run_args(dir / "cold", "8")).code, 0);
  EXPECT_NE(walk_of(dir / "warm"), walk_of(dir / "cold"));
  const auto pinned = base::Json::parse(text_of(pack)).at("entries");
  const auto first = base::Json::parse(lines_of(dir / "warm" / "run.ndjson").at(0));
  EXPECT_TRUE(std::any_of(pinned.begin(), pinned.end(), [&](const auto& entry) {
    return entry.at("template_params") == first.at("template_params");
  })) << "the first candidate is none of the pinned ones";
  const auto other = run_cli({"run", "--op", "swiglu", "--device", "null", "--warm-start", pack,
                              "--out", (dir / "other").string()});
  EXPECT_EQ(other.code, 2) << other.err;
  EXPECT_NE(other.err.find("knows no kernel of 'swiglu'"), std::string::npos) << other.err;
  const auto nothing = run_cli(run_args(dir / "x", "8", {"--warm-start", (dir / "y").string()}));
  EXPECT_EQ(nothing.code, 2) << nothing.err;
  EXPECT_FALSE(fs::exists(dir / "other") || fs::exists(dir / "x"));
}

TEST(Run, ReportsWhatItExpectedToGain) {
  const TempDir dir;
  ASSERT_EQ(run_cli(run_args(dir / "run", "30")).code, 0);
  const auto last = base::Json::parse(lines_of(dir / "run" / "run.ndjson").at(29));
  EXPECT_GE(last.at("notes").at("expected_gain").get<double>(), 0) << last;
  EXPECT_NE(text_of(dir / "run" / "report.html").find("Expected gain"), std::string::npos);
  ASSERT_EQ(run_cli(run_args(dir / "blind", "30", {"--strategy", "random"})).code, 0);
  EXPECT_EQ(text_of(dir / "blind" / "report.html").find("Expected gain"), std::string::npos);
}

TEST(Run, StopsWhereLittleIsExpectedToBeGained) {
  const TempDir dir;
  const auto result =
      run_cli(run_args(dir / "run", "2000", {"--min-gain", "0.2", "--json", "--quiet"}));
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_LT(Json::parse(result.out).at("evaluated"), 2000);
}

TEST(Run, RecordsTheToursThatItWalked) {
  const TempDir dir;
  ASSERT_EQ(run_cli(run_args(dir / "run", "12")).code, 0);
  const Json finish = Json::parse(lines_of(dir / "run" / "run.ndjson").back());
  ASSERT_EQ(finish.at("event"), "finish");
  ASSERT_FALSE(finish.at("tours").empty());
  for (auto tour : finish.at("tours")) {
    std::sort(tour.begin(), tour.end());
    EXPECT_EQ(tour.size(), 12u) << "each tour passes every point once";
    EXPECT_EQ(std::unique(tour.begin(), tour.end()), tour.end());
  }
}

TEST(Run, BenchModeOfTheFirstVersionIsReadAndAnswered) {
  const TempDir dir;
  const auto result = run_cli(run_args(dir / "run", "4", {"--bench-mode", "legacy"}));
  EXPECT_EQ(result.code, 0);
  EXPECT_NE(result.err.find("pairs always"), std::string::npos) << result.err;
}

TEST(Run, InstallRefusesWhatTheNullDeviceInvented) {
  const TempDir dir;
  ASSERT_EQ(run_cli(run_args(dir / "run", "4")).code, 0);
  const auto result = run_cli(
      {"install", "--run", (dir / "run").string(), "--output", (dir / "pins.json").string()});
  EXPECT_EQ(result.code, 2) << result.err;
  EXPECT_FALSE(fs::exists(dir / "pins.json"));
}

}  // namespace
}  // namespace mlx_kd::tests
