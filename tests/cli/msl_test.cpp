// The verbs of kd msl, as a user types them.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <initializer_list>
#include <string>
#include <vector>

namespace mlx_kd {
namespace {

const std::string kSuite = std::string(MLX_KD_SOURCE_DIR) + "/tests/msl/suite/";

struct Result {
  int exit_code = -1;
  std::string output;
};

Result kd(const std::vector<std::string>& words) {
  std::string command = std::string("'") + MLX_KD_PROGRAM + "' msl";
  for (const std::string& word : words) command += " '" + word + "'";
  Result result;
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (!pipe) return result;
  char part[4096];
  while (const size_t n = std::fread(part, 1, sizeof part, pipe)) result.output.append(part, n);
  result.exit_code = WEXITSTATUS(pclose(pipe));
  return result;
}

bool has(const Result& result, const std::string& part) {
  return result.output.find(part) != std::string::npos;
}

TEST(MslVerb, RunsAKernelAndShowsItsOutputs) {
  const auto result =
      kd({"run", kSuite + "elementwise.metal", "--fn", "axpy", "--grid", "8", "--threadgroup", "8",
          "--in", "x=arange:f32:[8]", "--in", "a=2:f32", "--out", "y=f32:[8]"});
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_TRUE(has(result, "0 2 4 6 8 10 12 14")) << result.output;
}

TEST(MslVerb, ChecksEachFunction) {
  const auto result = kd({"check", kSuite + "matrices.metal"});
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_TRUE(has(result, "accepted  kernel")) << result.output;
}

TEST(MslVerb, TranslatesToCuda) {
  const auto result = kd({"to-cuda", kSuite + "reductions.metal"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_TRUE(has(result, "extern \"C\" __global__ void row_sum_f16(")) << result.output;
}

TEST(MslVerb, ExitsWith2OnMisuse) {
  const std::vector<std::string> run = {
      "run", kSuite + "elementwise.metal", "--fn", "axpy", "--threadgroup", "8", "--grid"};
  const auto with = [&](std::initializer_list<const char*> more) {
    std::vector<std::string> words = run;
    words.insert(words.end(), more.begin(), more.end());
    return kd(words);
  };
  for (const auto& result :
       {with({"0"}), with({"8"}), with({"8", "--device", "gpu"}), with({"8", "--check", "all"}),
        with({"8", "--order", "any"}), with({"8", "--in", "x=rand"}),
        with({"8", "--constant", "x"}), kd({"check", "no such file"}), kd({"check"}), kd({})})
    EXPECT_EQ(result.exit_code, 2) << result.output;
}

}  // namespace
}  // namespace mlx_kd
