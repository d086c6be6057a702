#include "mlx_kd/evaluate/time/arithmetic_peak.h"

#include <algorithm>
#include <thread>
#include <vector>

#include "mlx_kd/base/clock.h"

namespace mlx_kd::evaluate {
namespace {

// Sixteen independent chains hide the latency of a multiply-add on every processor that we know.
constexpr int kChains = 16, kLanes = 16, kTurns = 20000, kPasses = 4;
constexpr double kFlops = 2.0 * kChains * kLanes * kTurns;

typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float))));

inline __attribute__((always_inline)) float chains() {
  Lanes sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = Lanes{} + static_cast<float>(i);
  const Lanes scale = Lanes{} + 0.999f, step = Lanes{} + 0.001f;
  for (int turn = 0; turn < kTurns; ++turn)
    for (int i = 0; i < kChains; ++i) sums[i] = sums[i] * scale + step;
  Lanes total = sums[0];
  for (int i = 1; i < kChains; ++i) total += sums[i];
  return total[0];
}

#if defined(__x86_64__)
__attribute__((target("avx512f,fma"), noinline)) float chains_avx512() {
  return chains();
}
__attribute__((target("avx2,fma"), noinline)) float chains_avx2() {
  return chains();
}
#endif
__attribute__((noinline)) float chains_plain() {
  return chains();
}

float (*widest())() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return chains_avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return chains_avx2;
#endif
  return chains_plain;
}

double rate_of(float (*run)()) {
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const int64_t start = base::steady_ns();
    volatile float result = run();
    static_cast<void>(result);
    best = std::max(best, kFlops / (1e6 * base::seconds_since(start)));
  }
  return best;
}

}  // namespace

double measure_flops(int cores) {
  std::vector<double> rates(static_cast<size_t>(std::max(1, cores)));
  std::vector<std::thread> threads;
  for (double& rate : rates) threads.emplace_back([&] { rate = rate_of(widest()); });
  for (auto& thread : threads) thread.join();
  double sum = 0;
  for (const double rate : rates) sum += rate;
  return sum;
}

}  // namespace mlx_kd::evaluate
