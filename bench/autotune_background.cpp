// What mlx_kd::autotune costs a program while it tunes in the background: steps that call one
// autotuned kernel and spend the rest of their time in products, in blocks with and without
// background tuning, the two of a pair in random order.
//
//   bench_autotune_background [PAIRS [STEPS [STEP_MS]]]    (8 pairs of blocks of 100 steps of 40
//   ms)
//
// After each block that tunes, the program makes no calls until its tuning is over, so every one of
// these blocks holds the start of a tuning of its own. Prints JSON: the ratio of the times of a
// pair, its median and its 10th and 90th percentile. MLX_KD_PROGRAM names kd, MLX_KD_PYTHON a
// Python with MLX. bench/check.py --parts background_cpp keeps what it prints.
#include <mlx/mlx.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "mlx_kd/mlx_kd.h"

namespace {

namespace fs = std::filesystem;
namespace mx = mlx::core;
using namespace mlx_kd;
using Arrays = std::vector<mx::array>;
using Clock = std::chrono::steady_clock;

constexpr int kRows = 64, kWidth = 1024, kProduct = 512;
constexpr double kTuningLimitS = 600;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// y = 2 x, another kernel for each name.
runtime::Autotuned doubled(const std::string& name, const fs::path& folder, bool background) {
  runtime::AutotuneKernel kernel;
  kernel.name = name;
  kernel.input_names = {"x"};
  kernel.output_names = {"y"};
  kernel.source = "uint i = thread_position_in_grid.x; y[i] = 2 * x[i];";
  kernel.launch = [](const Arrays& in, const runtime::AutotuneKernel::Knobs& knobs) {
    runtime::AutotuneKernel::Launch launch;
    launch.grid[0] = static_cast<int64_t>(in[0].size());
    launch.group[0] = knobs[0].second;
    launch.output_shapes = {in[0].shape()};
    launch.output_dtypes = {in[0].dtype()};
    return launch;
  };
  runtime::Autotune options;
  options.knobs = {{"TG", {32, 64, 128, 256}}};
  options.reference = [](const Arrays& in) { return Arrays{mx::add(in[0], in[0])}; };
  options.budget = 4;
  options.background = background;
  options.folder = folder;
  return runtime::autotune(std::move(kernel), std::move(options));
}

void step(const runtime::Autotuned& function, const mx::array& x, int turns) {
  const mx::array called = function({x})[0];
  mx::array y = mx::full({kProduct, kProduct}, 0.01f);
  for (int i = 0; i < turns; ++i) y = mx::tanh(mx::matmul(y, y));
  mx::eval({called, y});
}

double block_s(const runtime::Autotuned& function, const mx::array& x, int turns, int steps) {
  const auto start = Clock::now();
  for (int i = 0; i < steps; ++i) step(function, x, turns);
  return seconds_since(start);
}

// Whether the tuning that the calls began ended in time.
bool wait_for_tuning(const runtime::Autotuned& function) {
  const auto start = Clock::now();
  while (function.settings().empty() && function.failures().empty()) {
    if (seconds_since(start) > kTuningLimitS) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return true;
}

// How many products make a step of about that length.
int turns_for(const runtime::Autotuned& function, const mx::array& x, double step_ms) {
  constexpr int kTried = 8, kSteps = 10;
  block_s(function, x, kTried, 2);
  const double product_ms = 1e3 * block_s(function, x, kTried, kSteps) / kSteps / kTried;
  return std::max(1, static_cast<int>(step_ms / product_ms));
}

double at_share(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1) + 0.5)];
}

}  // namespace

int main(int argc, char** argv) {
  const int pairs = argc > 1 ? std::atoi(argv[1]) : 8, steps = argc > 2 ? std::atoi(argv[2]) : 100;
  const double step_ms = argc > 3 ? std::atof(argv[3]) : 40;
  if (pairs < 1 || steps < 1 || !(step_ms > 0)) {
    std::fprintf(stderr, "bench_autotune_background [PAIRS [STEPS [STEP_MS]]]: numbers above 0\n");
    return 2;
  }
  mx::set_default_device(mx::Device::cpu);
  std::string name = (fs::temp_directory_path() / "kd_background_XXXXXX").string();
  if (!mkdtemp(name.data())) return std::perror(name.c_str()), 1;
  const fs::path folder = name;
  const mx::array x = mx::random::normal({kRows, kWidth});
  const runtime::Autotuned plain = doubled("plain", folder, false);
  const int turns = turns_for(plain, x, step_ms);
  std::mt19937 random(0);
  std::vector<double> ratios;
  double plain_s = 0, tuned_s = 0;
  int proved = 0;
  for (int pair = 0; pair < pairs; ++pair) {
    const runtime::Autotuned tuned = doubled("tuned_" + std::to_string(pair), folder, true);
    const bool tuned_first = random() & 1;
    double own_s = tuned_first ? 0 : block_s(plain, x, turns, steps);
    const double with_s = block_s(tuned, x, turns, steps);
    if (!wait_for_tuning(tuned)) {
      std::fprintf(stderr, "[bench] the tuning did not end within %g s\n", kTuningLimitS);
      return 1;
    }
    proved += !tuned.settings().empty();
    if (tuned_first) own_s = block_s(plain, x, turns, steps);
    plain_s += own_s, tuned_s += with_s;
    ratios.push_back(with_s / own_s);
  }
  fs::remove_all(folder);
  std::printf(
      "{\"pairs\": %d, \"steps\": %d, \"mean_step_ms\": %.2f, \"plain_s\": %.3f, "
      "\"tuned_s\": %.3f, \"proved\": %d, \"ratio\": {\"median\": %.4f, \"lo\": %.4f, \"hi\": "
      "%.4f}}\n",
      pairs, steps, 1e3 * plain_s / pairs / steps, plain_s, tuned_s, proved, at_share(ratios, 0.5),
      at_share(ratios, 0.1), at_share(ratios, 0.9));
  return 0;
}
