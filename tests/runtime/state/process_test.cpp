// Many threads: one compile a key, the fall-back meanwhile, and a stress of everything at once.
//
// MLX_KD_STRESS_S sets how many seconds the stress lasts (2; 600 where MLX_KD_LONG is set). An hour
// under the thread sanitizer:
//   MLX_KD_STRESS_S=3600 KD_PRESET=tsan ./kd test -R Threads
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <thread>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/runtime/pins/pin_devices.h"
#include "tests/runtime/pinned.h"

namespace mlx_kd::runtime {
namespace {

const spec::Dims kCalledSize = {{"rows", 2}, {"D", 8}};

class Threads : public Pinned {
 protected:
  static float norm(int rows = 2) {
    const mx::array y = rmsnorm(all_ones({rows, 8}), all_ones({8}));
    const float first_one = std::round(first(y));
    EXPECT_TRUE(mx::all(mx::equal(mx::round(y), mx::array(first_one))).item<bool>());
    return first_one;
  }
};

class Nothing final : public devices::Program {
 public:
  void launch(const std::vector<const void*>&, const std::vector<void*>&,
              const devices::Call&) const override {}
  std::vector<mx::array> call(const std::vector<mx::array>&, const std::vector<spec::Shape>& shapes,
                              const devices::Call&) const override {
    return {mx::full(mx::Shape(shapes[0].begin(), shapes[0].end()), 42.0f)};
  }
};

// Compiles nothing until it is told to go on.
class SlowDevice final : public devices::Device {
 public:
  const spec::DeviceId& id() const override { return id_; }
  std::vector<std::string> languages() const override { return {"metal"}; }
  devices::Artifact compile(const spec::Candidate&, double) const override {
    std::unique_lock lock(mutex_);
    ++compiles_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
    devices::Artifact artifact;
    artifact.ok = true;
    return artifact;
  }
  std::shared_ptr<devices::Program> load(const devices::Artifact&,
                                         const spec::Candidate&) const override {
    return std::make_shared<Nothing>();
  }
  void wait_for_compile() const {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return compiles_ > 0; });
  }
  void close() const { reset(false); }
  void open() const { reset(true); }
  int compiles() const {
    std::lock_guard lock(mutex_);
    return compiles_;
  }

 private:
  void reset(bool open) const {
    std::lock_guard lock(mutex_);
    open_ = open;
    if (!open) compiles_ = 0;
    changed_.notify_all();
  }
  spec::DeviceId id_{"metal", "slow", "Slow Machine", {}, base::Json::object()};
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  mutable bool open_ = false;
  mutable int compiles_ = 0;
};

// Threads with that device.
class SlowCompiles : public Threads {
 protected:
  const std::shared_ptr<const SlowDevice> device_ = std::make_shared<SlowDevice>();

 private:
  AddedEngine engine_{{device_, mx::Device::cpu}};
};

// A Metal entry for the slow device; each body is a kernel of its own.
packs::Entry slow_entry(const std::string& body) {
  packs::Entry entry = marking_entry("rmsnorm", kCalledSize, 42);
  entry.language = "metal";
  entry.source = body;
  entry.key.device_arch = "slow";
  entry.key.device_name = "Slow Machine";
  entry.target = base::Json::object();
  entry.knobs = {{"eps", 1e-6}};
  entry.runtime_inputs = {{"eps", 1e-6}};
  entry.launch_params = {{"launch_kind", "rmsnorm_rows_tg"}, {"threadgroup_x", 32}};
  return entry;
}

TEST_F(SlowCompiles, OneThreadCompilesAndTheOthersRunMlxMeanwhile) {
  device_->close();
  pin({slow_entry("one")});
  std::thread compiling([] { EXPECT_EQ(norm(), 42); });
  device_->wait_for_compile();
  EXPECT_EQ(stats().pins.at(0).state, "compiling");
  EXPECT_EQ(norm(), 1);
  EXPECT_EQ(norm(), 1);
  device_->open();
  compiling.join();
  EXPECT_EQ(norm(), 42);
  EXPECT_EQ(stats().fallbacks, 2u);
  EXPECT_EQ(device_->compiles(), 1);
}

TEST_F(SlowCompiles, OthersWaitWhereThatIsAskedFor) {
  device_->close();
  configure({.enabled = true, .path = write_pack({slow_entry("two")}), .wait_for_compile = true});
  std::atomic<int> pinned{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) threads.emplace_back([&] { pinned += norm() == 42; });
  device_->wait_for_compile();
  device_->open();
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(pinned, 6);
  EXPECT_EQ(stats().fallbacks, 0u);
  EXPECT_EQ(device_->compiles(), 1);
}

TEST_F(Threads, EveryThreadSeesTheNewPinsAfterAReload) {
  pin({marking_entry("rmsnorm", kCalledSize, 100)});
  prepare();
  std::atomic<int> phase{0};
  std::thread other([&] {
    EXPECT_EQ(norm(), 100);
    phase = 1;
    while (phase != 2) std::this_thread::yield();
    EXPECT_EQ(norm(), 101);
  });
  while (phase != 1) std::this_thread::yield();
  pin({marking_entry("rmsnorm", kCalledSize, 101)});
  prepare();
  phase = 2;
  other.join();
}

double stress_seconds() {
  if (const char* given = std::getenv("MLX_KD_STRESS_S")) return std::atof(given);
  return std::getenv("MLX_KD_LONG") ? 600 : 2;
}

// Marks 200 to 203 of generation 0, 204 to 207 of generation 1, ...
packs::Entry stress_entry(int rows, int generation) {
  return marking_entry("rmsnorm", {{"rows", rows}, {"D", 8}}, 200 + 4 * generation + rows - 1);
}

bool may_be(float value, int rows) {
  if (value == 1) return true;  // MLX's
  const int mark = static_cast<int>(value) - 200;
  return mark >= 0 && mark % 4 == rows - 1;
}

TEST_F(Threads, LookupsReloadsCompilesAndReportsAtOnceGiveOldPinsOrNewOnesWhole) {
  constexpr int kGenerations = 8, kCounts = 4;
  constexpr double kMostSeconds = 120;
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> calls{0}, pinned{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = t; !stop; ++i) {
        const int rows = 1 + i % (kCounts + 1);
        const float value = norm(rows);
        if (!may_be(value, rows)) ADD_FAILURE() << value << " of " << rows << " rows";
        ++calls;
        pinned += value != 1;
      }
    });
  threads.emplace_back([&] {
    while (!stop) {
      const Stats now = stats();
      EXPECT_EQ(now.calls, now.hits + now.misses + now.fallbacks);
      explain("rmsnorm", {all_ones({2, 8}), all_ones({8})});
      std::thread([] {  // ledgers come and go
        norm(3);
        mx::clear_streams();
      })
          .join();
    }
  });
  const int64_t start = base::steady_ns();
  const auto goes_on = [&] {  // on a busy machine until something was compiled
    const double seconds = base::seconds_since(start);
    return seconds < stress_seconds() || (pinned == 0 && seconds < kMostSeconds);
  };
  for (int generation = 0; goes_on(); ++generation) {
    std::vector<packs::Entry> entries;
    for (int rows = 1; rows <= kCounts; ++rows)
      entries.push_back(stress_entry(rows, generation % kGenerations));
    pin(entries);
    if (generation % 5 == 4) disable();
    if (generation % 7 == 6) reset_stats();
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
  }
  stop = true;
  for (auto& thread : threads) thread.join();
  EXPECT_GT(calls, 0u);
  EXPECT_GT(pinned, 0u);
}

}  // namespace
}  // namespace mlx_kd::runtime
