#include "mlx_kd/evaluate/time/bandwidth.h"

#include <algorithm>
#include <cstring>
#include <thread>
#include <vector>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/evaluate/time/arithmetic_peak.h"
#include "mlx_kd/evaluate/time/cache_flush.h"

namespace mlx_kd::evaluate {
namespace {

constexpr size_t kColdBytes = size_t(8) << 20;  // each way and core
constexpr int kWarmRepeats = 40, kWarmPasses = 6, kColdPasses = 4;

// One core's copies; bytes a us of the fastest pass.
double copy_rate(size_t bytes, int repeats, int passes, bool cold) {
  std::vector<char> from(bytes, 1), to(bytes, 2);
  double best = 0;
  for (int pass = 0; pass < passes; ++pass) {
    if (cold) flush_from_caches(from.data(), bytes), flush_from_caches(to.data(), bytes);
    const int64_t start = base::steady_ns();
    for (int i = 0; i < repeats; ++i) {
      std::memcpy(to.data(), from.data(), bytes);
      __asm__ volatile("" : : "r"(to.data()), "r"(from.data()) : "memory");
    }
    const double us = 1e6 * base::seconds_since(start);
    best = std::max(best, 2.0 * static_cast<double>(bytes) * repeats / us);
  }
  return best;
}

// The sum over cores that copy at once.
double on_all_cores(int cores, size_t bytes, int repeats, int passes, bool cold) {
  std::vector<double> rates(static_cast<size_t>(std::max(1, cores)));
  std::vector<std::thread> threads;
  for (double& rate : rates)
    threads.emplace_back([&] { rate = copy_rate(bytes, repeats, passes, cold); });
  for (auto& thread : threads) thread.join();
  double sum = 0;
  for (double rate : rates) sum += rate;
  return sum;
}

}  // namespace

Bandwidth measure_bandwidth(const devices::Device& device) {
  if (const devices::Accelerator* accelerator = device.accelerator()) {
    const devices::CopyRates rates = accelerator->copy_rates();
    return {rates.warm, rates.cold, 0};
  }
  const spec::DeviceTraits& traits = device.id().traits;
  const auto warm_bytes = static_cast<size_t>(traits.l2_bytes / 4);
  return {on_all_cores(traits.cores, warm_bytes, kWarmRepeats, kWarmPasses, false),
          on_all_cores(traits.cores, kColdBytes, 1, kColdPasses, true),
          measure_flops(traits.cores)};
}

base::Json to_json(const Bandwidth& bandwidth) {
  return {{"warm", bandwidth.warm}, {"cold", bandwidth.cold}, {"flops", bandwidth.flops}};
}

Bandwidth bandwidth_from_json(const base::Json& value) {
  return {value.at("warm").get<double>(), value.at("cold").get<double>(),
          value.at("flops").get<double>()};
}

}  // namespace mlx_kd::evaluate
