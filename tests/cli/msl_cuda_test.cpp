// kd msl run --device cuda, as a user types it.
#include <gtest/gtest.h>

#include "mlx_kd/base/json.h"
#include "mlx_kd/devices/device.h"
#include "tests/support/run_cli.h"

namespace mlx_kd::cli {
namespace {

bool has_gpu() {
  for (const auto& report : devices::list_devices())
    if (report.kind == "cuda") return report.available;
  return false;
}

std::vector<std::string> run_words(const std::string& file) {
  return {"msl", "run", file, "--grid", "64", "--threadgroup", "64", "--out", "y=f32:[64]"};
}

std::vector<std::string> with(std::vector<std::string> words,
                              std::initializer_list<std::string> more) {
  words.insert(words.end(), more);
  return words;
}

std::filesystem::path write_kernel(const tests::TempDir& folder, const std::string& body) {
  const auto path = folder.path() / "k.metal";
  std::ofstream(path) << "#include <metal_stdlib>\nusing namespace metal;\n"
                         "kernel void k(device float* y, uint i [[thread_position_in_grid]]) {\n"
                      << body << "\n}\n";
  return path;
}

TEST(MslCuda, RefusesChecksWhichAreTheExecutors) {
  const tests::TempDir folder;
  const auto file = write_kernel(folder, "  y[i] = i;");
  const auto result =
      tests::run_cli(with(run_words(file.string()), {"--device", "cuda", "--check", "races"}));
  EXPECT_EQ(result.code, 2);
  EXPECT_NE(result.err.find("--check needs the executor"), std::string::npos) << result.err;
}

TEST(MslCuda, WithoutAGpuSaysWhatIsMissing) {
  if (has_gpu()) GTEST_SKIP() << "this machine has a GPU";
  const tests::TempDir folder;
  const auto file = write_kernel(folder, "  y[i] = i;");
  const auto result = tests::run_cli(with(run_words(file.string()), {"--device", "cuda"}));
  EXPECT_EQ(result.code, 2);
  EXPECT_NE(result.err.find("device 'cuda' cannot be used here"), std::string::npos) << result.err;
}

TEST(MslCuda, RunsAKernelAndTellsItsOutputs) {
  if (!has_gpu()) GTEST_SKIP() << "no GPU";
  const tests::TempDir folder;
  const auto file = write_kernel(folder, "  y[i] = 2 * float(i);");
  const auto result =
      tests::run_cli(with(run_words(file.string()), {"--device", "cuda", "--json"}));
  ASSERT_EQ(result.code, 0) << result.err;
  const auto outputs = base::parse_json(result.out, "test", "kd msl run").at("outputs");
  EXPECT_EQ(outputs[0].at("max"), 126.0);
  EXPECT_EQ(outputs[0].at("first")[3], 6.0);
}

TEST(MslCuda, EndsAKernelThatFaultsOrNeverEndsWithItsPlace) {
  if (!has_gpu()) GTEST_SKIP() << "no GPU";
  const tests::TempDir folder;
  for (const char* body :
       {"  y[i + 4000000000000ul] = 1;", "  while (y[i] < 1) y[i] -= 1; y[i] = 3;"}) {
    const auto file = write_kernel(folder, body);
    const auto result =
        tests::run_cli(with(run_words(file.string()), {"--device", "cuda", "--timeout", "2"}));
    EXPECT_EQ(result.code, 1) << body;
    EXPECT_NE(result.err.find("k.metal:3:13: kernel 'k'"), std::string::npos) << result.err;
  }
}

}  // namespace
}  // namespace mlx_kd::cli
