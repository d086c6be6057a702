#include "mlx_kd/evaluate/worker/compile_batch.h"

#include <algorithm>
#include <exception>
#include <mutex>
#include <thread>

#include "mlx_kd/devices/watched_compiler.h"

namespace mlx_kd::evaluate {

std::vector<devices::Artifact> compile_batch(const devices::Device& device,
                                             const std::vector<spec::Candidate>& batch,
                                             double limit_s, const std::atomic<bool>& stop) {
  std::vector<devices::Artifact> artifacts(batch.size());
  std::atomic<size_t> next{0};
  std::exception_ptr failure;
  std::mutex mutex;
  // A proof is one thread's; what it needs of the compiler is made here, on all cores.
  const auto* const watched = dynamic_cast<const devices::WatchedCompiler*>(&device);
  const auto work = [&] {
    try {
      for (size_t i; !stop && (i = next++) < batch.size();) {
        artifacts[i] = device.compile(batch[i], limit_s);
        if (watched && artifacts[i].ok && !artifacts[i].cached) watched->compile_watched(batch[i]);
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      failure = std::current_exception();
      next = batch.size();
    }
  };
  // A device with no cores of its own leaves the host's to the compiler.
  const int own = device.id().traits.cores;
  const size_t cores =
      own > 0 ? static_cast<size_t>(own) : std::max<size_t>(1, std::thread::hardware_concurrency());
  std::vector<std::thread> threads(std::min(cores, batch.size()));
  for (auto& thread : threads) thread = std::thread(work);
  for (auto& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
  return artifacts;
}

}  // namespace mlx_kd::evaluate
