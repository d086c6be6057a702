// Sizes that are tuned while the program runs: one after the other, by a thread that waits for the
// program kd.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "mlx/array.h"

namespace mlx_kd::runtime {

class BackgroundTuning {
 public:
  struct Size {
    std::string text;                    // for people
    std::vector<mlx::core::array> like;  // arrays of these types and axes
    std::string device;                  // of the call
  };
  struct Run {
    std::filesystem::path in_use;  // touched while the program makes calls: kd waits then
    const std::atomic<bool>* ended;
  };
  // Called by the thread; what it throws becomes a failure of that size.
  using Tune = std::function<void(const Size& size, const Run& run)>;

  explicit BackgroundTuning(Tune tune) : tune_(std::move(tune)) {}
  // Ends the run that is going on.
  ~BackgroundTuning();
  BackgroundTuning(const BackgroundTuning&) = delete;
  BackgroundTuning& operator=(const BackgroundTuning&) = delete;

  // False for a size that was asked for before, and for those above the first thousand.
  bool ask(const std::string& size);
  void want(Size size);
  void failed(const std::string& size, const std::string& why);
  void called() { calls_.fetch_add(1, std::memory_order_relaxed); }
  // "float32 [64]: why", of the sizes that could not be tuned.
  std::vector<std::string> failures() const;

 private:
  void work();
  void tune(const Size& size);
  void touch_while_called(const std::filesystem::path& file, const std::atomic<bool>& over);

  Tune tune_;
  std::atomic<uint64_t> calls_{0};
  std::atomic<bool> ended_{false};
  mutable std::mutex mutex_;  // of what follows
  std::deque<Size> wanted_;
  std::set<std::string> asked_;
  std::map<std::string, std::string> failures_;
  bool working_ = false;
  std::thread thread_;
};

}  // namespace mlx_kd::runtime
