// The scorer against another program of the same rules, on the recorded spaces: the same walks in,
// the same scores out. Skipped where that program, the spaces or its Python modules are absent.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "mlx_kd/base/json.h"
#include "mlx_kd/cli/replay.h"
#include "tests/support/run_cli.h"

namespace mlx_kd::cli {
namespace {

namespace fs = std::filesystem;
using base::Json;

constexpr size_t kRepeats = 5;

// Reads {kernel, gpu, times of the first points, walks} and prints the score of the walks, or
// "other order" where the points are numbered otherwise.
constexpr const char* kProgram = R"(
import json, sys
import numpy as np
from spaces import load, score
work = json.load(open(sys.argv[1]))
space = load(work["kernel"], work["gpu"])
known = np.array([np.nan if t is None else t for t in work["times"]])
same = np.allclose(space.v[:len(known)], known, rtol=1e-12, equal_nan=True)
print(score(space, [np.array(w) for w in work["walks"]]) if same else "other order")
)";

fs::path shared() {
  return fs::path(MLX_KD_SOURCE_DIR) / "../shared";
}

std::string python() {
  const char* named = std::getenv("MLX_KD_TEST_PYTHON");
  return named ? named : "python3";
}

std::string quoted(const std::string& text) {
  return "'" + text + "'";
}

std::vector<size_t> random_walk(const search::Recording& recording, double budget, uint64_t seed) {
  const auto strategy = search::make_strategy("random", recording.points, {}, seed);
  return search::replay(*strategy, recording, budget);
}

class OtherScorer : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::getenv("MLX_KD_LONG")) GTEST_SKIP() << "takes a minute or two: set MLX_KD_LONG=1";
    if (!fs::exists(shared() / "search-prototype/spaces.py"))
      GTEST_SKIP() << "there is no other scorer next to the sources";
    const std::string modules = python() + " -c 'import numpy, scipy, sklearn' 2>/dev/null";
    if (std::system(modules.c_str()) != 0)
      GTEST_SKIP() << python() << " lacks numpy, scipy or sklearn: name one in MLX_KD_TEST_PYTHON";
    std::ofstream(dir_ / "score.py") << kProgram;
  }

  std::string other_score(const Json& work) const {
    std::ofstream(dir_ / "work.json") << work.dump();
    const std::string prefix = "SPACES_CACHE=" + quoted(dir_.path().string()) + " PYTHONPATH=" +
                               quoted(fs::canonical(shared() / "search-prototype").string()) +
                               " PYTHONDONTWRITEBYTECODE=1 ";
    const std::string command = prefix + python() + " " + quoted((dir_ / "score.py").string()) +
                                " " + quoted((dir_ / "work.json").string()) + " > " +
                                quoted((dir_ / "score").string());
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
    return tests::text_of(dir_ / "score");
  }

  tests::TempDir dir_;
};

TEST_F(OtherScorer, GivesTheSameScoresToTheSameWalks) {
  size_t spaces = 0;
  for (const fs::path& path : find_recordings(shared() / "tuning_spaces")) {
    const search::Recording recording = load_recording(path);
    const search::Scorer scorer(recording);
    const size_t slash = recording.name.find('/');
    Json work = {{"kernel", recording.name.substr(0, slash)},
                 {"gpu", recording.name.substr(slash + 1)},
                 {"times", recording.values},
                 {"walks", Json::array()}};
    search::Scorer::Walks walks;
    for (uint64_t seed = 0; seed < kRepeats; ++seed)
      walks.push_back(random_walk(recording, scorer.budget(), seed));
    for (const auto& walk : walks) work["walks"].push_back(walk);
    const std::string other = other_score(work);
    EXPECT_EQ(other.find("order"), std::string::npos) << recording.name << " is numbered otherwise";
    EXPECT_NEAR(std::atof(other.c_str()), scorer.score(walks), 0.005) << recording.name;
    ++spaces;
  }
  EXPECT_EQ(spaces, 12u);
}

}  // namespace
}  // namespace mlx_kd::cli
