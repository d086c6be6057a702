#include "mlx_kd/devices/cuda/cuda_accelerator.h"

#include <algorithm>
#include <mutex>
#include <optional>

#include "mlx_kd/devices/cuda/driver/device_clock.h"
#include "mlx_kd/devices/cuda/driver/queued_program.h"

namespace mlx_kd::devices::cuda {
namespace {

constexpr int64_t kColdBytes = int64_t(1) << 30;
constexpr int kWarmCopies = 100, kWarmPasses = 8, kColdPasses = 6;

Address address(const void* memory) {
  return reinterpret_cast<Address>(memory);
}

class CudaSample final : public Accelerator::Sample {
 public:
  CudaSample(const QueuedProgram& program, const Call& call, const std::vector<DeviceArrays>& sets,
             std::function<void(Stream)> before)
      : before_(std::move(before)), graph_([&](Stream stream) {
          for (const DeviceArrays& set : sets) program.queue(set.inputs, set.outputs, call, stream);
        }) {}

  double run() const override {
    use_gpu();
    return graph_.run(before_);
  }

 private:
  std::function<void(Stream)> before_;
  TimedGraph graph_;
};

// Best of several passes, in bytes a us.
double best_rate(int64_t bytes, int copies, int passes) {
  const Memory from(bytes), to(bytes);
  fill_memory(from.at(), 1, static_cast<size_t>(bytes));
  const TimedGraph graph([&](Stream stream) {
    for (int i = 0; i < copies; ++i)
      check(driver().copy_async(to.at(), from.at(), static_cast<size_t>(bytes), stream),
            "copying memory");
  });
  double best_us = graph.run();
  for (int i = 1; i < passes; ++i) best_us = std::min(best_us, graph.run());
  return 2.0 * static_cast<double>(bytes) * copies / best_us;
}

class CudaAccelerator final : public Accelerator {
 public:
  void* allocate(int64_t bytes) const override {
    use_gpu();
    Address memory = 0;
    check(driver().allocate(&memory, static_cast<size_t>(std::max<int64_t>(bytes, 1))),
          "allocating memory");
    return reinterpret_cast<void*>(memory);
  }
  void release(void* memory) const override {
    use_gpu();
    driver().release(address(memory));
  }
  void write(void* to, const void* from, int64_t bytes) const override {
    use_gpu();
    write_memory(address(to), from, static_cast<size_t>(bytes));
  }
  void read(void* to, const void* from, int64_t bytes) const override {
    use_gpu();
    check(driver().read(to, address(from), static_cast<size_t>(bytes)), "reading its memory");
  }
  void fill(void* memory, unsigned char byte, int64_t bytes) const override {
    use_gpu();
    fill_memory(address(memory), byte, static_cast<size_t>(bytes));
  }
  void flush() const override {
    use_gpu();
    const OwnStream stream;
    sweep(stream);
    check(driver().stream_wait(stream), "emptying its cache");
  }

  std::unique_ptr<Sample> sample(const devices::Program& program, const Call& call,
                                 const std::vector<DeviceArrays>& sets, bool cold) const override {
    use_gpu();
    std::function<void(Stream)> before;
    if (cold) before = [this](Stream stream) { sweep(stream); };
    const auto& queued = dynamic_cast<const QueuedProgram&>(program);
    queued.prepare(call);
    return std::make_unique<CudaSample>(queued, call, sets, before);
  }

  CopyRates copy_rates() const override {
    use_gpu();
    return {best_rate(gpu().l2_bytes / 8, kWarmCopies, kWarmPasses),
            best_rate(kColdBytes, 1, kColdPasses)};
  }

 private:
  // Writes twice what the second-level cache holds.
  void sweep(Stream stream) const {
    const int64_t bytes = 2 * gpu().l2_bytes;
    {
      const std::lock_guard lock(mutex_);
      if (!swept_) swept_.emplace(bytes);
    }
    check(driver().fill_async(swept_->at(), 0, static_cast<size_t>(bytes), stream),
          "emptying its cache");
  }

  mutable std::mutex mutex_;
  mutable std::optional<Memory> swept_;
};

}  // namespace

std::unique_ptr<Accelerator> make_accelerator() {
  return std::make_unique<CudaAccelerator>();
}

}  // namespace mlx_kd::devices::cuda
