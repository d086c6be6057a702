#include "mlx_kd/runtime/state/settings.h"

#include <algorithm>
#include <atomic>
#include <thread>

#include "mlx_kd/base/error.h"
#include "mlx_kd/runtime/state/environment.h"
#include "mlx_kd/runtime/state/process.h"

namespace mlx_kd::runtime {
namespace {

// Compiles of different kernels run side by side.
void make_ready(const std::vector<std::shared_ptr<Kernel>>& kernels) {
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t i = next++; i < kernels.size(); i = next++) kernels[i]->program(true);
  };
  const size_t wanted = std::clamp<size_t>(std::thread::hardware_concurrency(), 1, kernels.size());
  std::vector<std::thread> threads;
  for (size_t i = 1; i < wanted; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

void configure(const Settings& settings) {
  Process::shared().apply([&](Settings given) {
    if (settings.enabled) given.enabled = settings.enabled;
    if (settings.path) given.path = settings.path;
    if (settings.allow_approximate) given.allow_approximate = settings.allow_approximate;
    if (settings.wait_for_compile) given.wait_for_compile = settings.wait_for_compile;
    if (settings.trust) given.trust = settings.trust;
    if (settings.default_kernels) given.default_kernels = settings.default_kernels;
    return given;
  });
}

void reset_settings() {
  Process::shared().apply([](const Settings&) { return Settings(); });
}

void enable(const std::optional<std::string>& path) {
  configure({.enabled = true, .path = path});
}

void disable() {
  configure({.enabled = false});
}

void reload() {
  Process::shared().apply([](const Settings& given) { return given; });
}

Effective settings() {
  Effective result = effective(Process::shared().given());
  if (result.path == "shipped" && result.enabled) result.files = Process::shared().files();
  return result;
}

size_t prepare() {
  Process& process = Process::shared();
  process.modes();
  if (!process.error().empty()) reload();
  uint64_t generation = 0;
  const auto table = process.table(generation);
  std::vector<std::shared_ptr<Kernel>> kernels;
  for (const Pin& pin : table->pins()) kernels.push_back(pin.kernel);
  std::sort(kernels.begin(), kernels.end());
  kernels.erase(std::unique(kernels.begin(), kernels.end()), kernels.end());
  if (!kernels.empty()) make_ready(kernels);
  return static_cast<size_t>(std::count_if(kernels.begin(), kernels.end(), [](const auto& kernel) {
    return kernel->state() == KernelState::ready;
  }));
}

}  // namespace mlx_kd::runtime
