// What Metal kernels cost on the executor: barriers of fibers, and kernels that run as loops beside
// hand-written loops of the same computation, one core each, in pairs. Hand-written texts are
// compiled by the same compiler with the same options.
//
//   bench_msl_executor [ROUNDS] > bench/results/msl_executor.json
#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iostream>
#include <vector>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/json.h"
#include "mlx_kd/base/process.h"
#include "mlx_kd/devices/host/cpu_info.h"
#include "mlx_kd/devices/simt/checks/session.h"
#include "mlx_kd/devices/simt/program/simt_compiler.h"

namespace {

using namespace mlx_kd;
namespace simt = devices::simt;

constexpr uint32_t kGroup = 256, kGroups = 1024, kThreads = kGroup * kGroups;

constexpr const char* kMetal = R"(#include <metal_stdlib>
using namespace metal;
#define ARGUMENTS device const float* x, device float* y, uint i [[thread_position_in_grid]], \
                  uint t [[thread_position_in_threadgroup]], uint g [[threadgroup_position_in_grid]]
kernel void barriers(ARGUMENTS) {
  threadgroup float s[256];
  float v = x[i];
  for (int k = 0; k < 10; ++k) {
    s[t] = v;
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  y[i] = v;
}
kernel void axpy(ARGUMENTS) { y[i] = 2.5f * x[i] + 1.0f; }
kernel void silu(ARGUMENTS) { y[i] = x[i] / (1.0f + exp(-x[i])); }
kernel void row_sum(ARGUMENTS) {
  float sum = 0;
  if (i >= 1024) return;
  for (uint k = 0; k < 256; ++k) sum += x[i * 256 + k];
  y[i] = sum;
}
kernel void reverse_tile(ARGUMENTS) {
  threadgroup float s[256];
  s[t] = x[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = s[255 - t];
}
kernel void smooth(ARGUMENTS) {
  threadgroup float s[258];
  s[t + 1] = x[i];
  if (t == 0) s[0] = 0;
  if (t == 255) s[257] = 0;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = 0.25f * s[t] + 0.5f * s[t + 1] + 0.25f * s[t + 2];
}
kernel void subtract_first(ARGUMENTS) {
  threadgroup float first;
  const float v = exp(x[i]);
  if (t == 0) first = v;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = v - first;
}
kernel void tree_sum(ARGUMENTS) {
  threadgroup float s[256];
  s[t] = x[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (t < 128) s[t] += s[t + 128];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (t < 64) s[t] += s[t + 64];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (t < 32) s[t] += s[t + 32];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (t < 16) s[t] += s[t + 16];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = s[t % 16];
}
)";

// One function a kernel; n groups of 256.
constexpr const char* kHand = R"(
extern "C" void axpy(const float* x, float* y, int n) {
  for (int i = 0; i < 256 * n; ++i) y[i] = 2.5f * x[i] + 1.0f;
}
extern "C" void silu(const float* x, float* y, int n) {
  for (int i = 0; i < 256 * n; ++i) y[i] = x[i] / (1.0f + __builtin_expf(-x[i]));
}
extern "C" void row_sum(const float* x, float* y, int n) {
  for (int i = 0; i < n; ++i) {
    float sum = 0;
    for (int k = 0; k < 256; ++k) sum += x[i * 256 + k];
    y[i] = sum;
  }
}
extern "C" void reverse_tile(const float* x, float* y, int n) {
  for (int g = 0; g < n; ++g)
    for (int t = 0; t < 256; ++t) y[256 * g + t] = x[256 * g + 255 - t];
}
extern "C" void smooth(const float* x, float* y, int n) {
  for (int g = 0; g < n; ++g) {
    float s[258];
    s[0] = s[257] = 0;
    for (int t = 0; t < 256; ++t) s[t + 1] = x[256 * g + t];
    for (int t = 0; t < 256; ++t) y[256 * g + t] = 0.25f * s[t] + 0.5f * s[t + 1] + 0.25f * s[t + 2];
  }
}
extern "C" void subtract_first(const float* x, float* y, int n) {
  for (int g = 0; g < n; ++g) {
    float v[256];
    for (int t = 0; t < 256; ++t) v[t] = __builtin_expf(x[256 * g + t]);
    for (int t = 0; t < 256; ++t) y[256 * g + t] = v[t] - v[0];
  }
}
extern "C" void tree_sum(const float* x, float* y, int n) {
  for (int g = 0; g < n; ++g) {
    float s[256];
    for (int t = 0; t < 256; ++t) s[t] = x[256 * g + t];
    for (int half = 128; half >= 16; half /= 2)
      for (int t = 0; t < half; ++t) s[t] += s[t + half];
    for (int t = 0; t < 256; ++t) y[256 * g + t] = s[t % 16];
  }
}
)";

struct Pair {
  const char* kernel;
  const char* kind;
};
constexpr Pair kPairs[] = {{"axpy", "no barrier"},
                           {"silu", "no barrier"},
                           {"row_sum", "no barrier"},
                           {"reverse_tile", "barriers at the top"},
                           {"smooth", "barriers at the top"},
                           {"subtract_first", "barriers at the top"},
                           {"tree_sum", "barriers at the top"}};

void* compile_hand() {
  char folder[] = "/tmp/mlx-kd-bench-XXXXXX";
  if (!mkdtemp(folder)) base::fail("bench", "no temporary folder");
  const std::string base = std::string(folder) + "/hand";
  std::ofstream(base + ".cpp") << kHand;
  std::vector<std::string> argv = {"g++", "-O3", "-shared", "-o", base + ".so", base + ".cpp"};
  for (const std::string& flag : simt::flags_of({})) argv.push_back(flag);
  const auto made = base::run_process(argv, 60);
  if (!made.ok()) base::fail("bench", made.output);
  return dlopen((base + ".so").c_str(), RTLD_NOW);
}

std::string compiler_version() {
  std::string text = "g++ " + base::run_process({"g++", "-dumpfullversion"}, 20).output;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

template <class F>
double milliseconds(const F& f) {
  const int64_t start = base::steady_ns();
  f();
  return 1e-6 * static_cast<double>(base::steady_ns() - start);
}

// Of all threads of this process: what is left of a time when other programs take the cores.
double cpu_milliseconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return 1e3 * static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_nsec);
}

double quantile(std::vector<double> list, double q) {
  std::sort(list.begin(), list.end());
  return list[static_cast<size_t>(q * static_cast<double>(list.size() - 1))];
}

class Bench {
 public:
  explicit Bench(int rounds)
      : rounds_(rounds), session_("bench.metal", kMetal, {}, {}), hand_(compile_hand()) {
    const devices::Artifact made =
        simt::compile(session_.unit(), session_.translation(), {}, "bench").artifact;
    if (!made.ok) base::fail("bench", made.error);
    module_ = simt::Module::load(made.path.string());
    for (size_t i = 0; i < x_.size(); ++i) x_[i] = 0.001f * static_cast<float>(i % 1999) - 1;
  }

  base::OrderedJson barriers(int cores) {
    simt::LaunchOptions options;
    options.fibers = true;
    options.cores = cores;
    std::vector<double> times, cpu;
    for (int i = 0; i < rounds_; ++i) {
      const double start = cpu_milliseconds();
      times.push_back(milliseconds([&] { launch("barriers", options); }));
      cpu.push_back(cpu_milliseconds() - start);
    }
    return {{"groups", kGroups},
            {"threads", kGroup},
            {"barriers", 10},
            {"cores", cores},
            {"ms_median", quantile(times, 0.5)},
            {"ms_p10", quantile(times, 0.1)},
            {"cpu_ms_median", quantile(cpu, 0.5)}};
  }

  base::OrderedJson pair(const Pair& one) {
    auto* hand = reinterpret_cast<void (*)(const float*, float*, int)>(dlsym(hand_, one.kernel));
    simt::LaunchOptions loops, fibers;
    loops.cores = fibers.cores = 1;
    fibers.fibers = true;
    std::vector<double> ratios, kernel, by_hand, with_fibers;
    for (int i = 0; i < rounds_; ++i) {
      kernel.push_back(milliseconds([&] { launch(one.kernel, loops); }));
      const std::vector<float> result = y_;
      by_hand.push_back(milliseconds([&] { hand(x_.data(), y_.data(), kGroups); }));
      for (size_t k = 0; k < y_.size(); ++k)
        if (!(result[k] - y_[k] < 1e-5f && y_[k] - result[k] < 1e-5f))
          base::fail("bench", std::string(one.kernel) + ": the hand-written loop disagrees");
      ratios.push_back(kernel.back() / by_hand.back());
      if (i < 5) with_fibers.push_back(milliseconds([&] { launch(one.kernel, fibers); }));
    }
    return {{"kernel", one.kernel},
            {"kind", one.kind},
            {"ratio_median", quantile(ratios, 0.5)},
            {"ratio_p10", quantile(ratios, 0.1)},
            {"ratio_p90", quantile(ratios, 0.9)},
            {"kernel_ms", quantile(kernel, 0.5)},
            {"hand_ms", quantile(by_hand, 0.5)},
            {"fibers_ms", quantile(with_fibers, 0.5)}};
  }

 private:
  void launch(const std::string& name, const simt::LaunchOptions& options) {
    for (const msl::Kernel& one : session_.translation().kernels)
      if (one.name == name)
        simt::launch(module_->entry(one), {x_.data(), y_.data()}, {}, {kThreads, 1, 1},
                     {kGroup, 1, 1}, options);
  }

  int rounds_;
  simt::Session session_;
  void* hand_;
  std::shared_ptr<simt::Module> module_;
  std::vector<float> x_ = std::vector<float>(kThreads), y_ = std::vector<float>(kThreads);
};

}  // namespace

int main(int argc, char** argv) try {
  Bench bench(argc > 1 ? std::max(std::atoi(argv[1]), 1) : 31);
  base::OrderedJson pairs = base::OrderedJson::array();
  for (const Pair& one : kPairs) pairs.push_back(bench.pair(one));
  char date[16];
  const std::time_t now = std::time(nullptr);
  std::strftime(date, sizeof date, "%F", std::gmtime(&now));
  double load = 0;
  getloadavg(&load, 1);
  const base::OrderedJson result = {
      {"date", date},
      {"machine", {{"cpu", devices::cpu::make_cpu_id().name}, {"load", load}}},
      {"compiler", compiler_version()},
      {"barriers", {bench.barriers(1), bench.barriers(2)}},
      {"beside_hand_written_loops", pairs}};
  std::cout << result.dump(1) << "\n";
} catch (const base::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return error.exit_code();
}
