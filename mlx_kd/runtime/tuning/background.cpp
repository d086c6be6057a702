#include "mlx_kd/runtime/tuning/background.h"

#include <chrono>
#include <exception>
#include <fstream>
#include <utility>

#include "mlx_kd/base/files.h"

namespace mlx_kd::runtime {
namespace {

constexpr auto kLookEvery = std::chrono::milliseconds(100);  // whether calls were made
constexpr size_t kMostAsked = 1000;

}  // namespace

BackgroundTuning::~BackgroundTuning() {
  ended_ = true;
  if (thread_.joinable()) thread_.join();
}

bool BackgroundTuning::ask(const std::string& size) {
  std::lock_guard lock(mutex_);
  return asked_.size() < kMostAsked && asked_.insert(size).second;
}

void BackgroundTuning::want(Size size) {
  std::lock_guard lock(mutex_);
  wanted_.push_back(std::move(size));
  if (working_) return;
  if (thread_.joinable()) thread_.join();  // it found nothing more to do
  working_ = true;
  thread_ = std::thread([this] { work(); });
}

void BackgroundTuning::failed(const std::string& size, const std::string& why) {
  std::lock_guard lock(mutex_);
  failures_[size] = why;
}

std::vector<std::string> BackgroundTuning::failures() const {
  std::lock_guard lock(mutex_);
  std::vector<std::string> result;
  for (const auto& [size, why] : failures_) result.push_back(size + ": " + why);
  return result;
}

void BackgroundTuning::work() {
  while (true) {
    std::unique_lock lock(mutex_);
    if (wanted_.empty() || ended_) {
      working_ = false;
      return;
    }
    const Size size = std::move(wanted_.front());
    wanted_.pop_front();
    lock.unlock();
    tune(size);
  }
}

void BackgroundTuning::tune(const Size& size) {
  try {
    const base::ScratchFolder temporary("autotune");
    const std::filesystem::path in_use = temporary.file("in-use");
    std::atomic<bool> over{false};
    std::thread watch([&] { touch_while_called(in_use, over); });
    std::exception_ptr error;
    try {
      tune_(size, {in_use, &ended_});
    } catch (...) {
      error = std::current_exception();
    }
    over = true;
    watch.join();
    if (error) std::rethrow_exception(error);
  } catch (const std::exception& error) {
    if (!ended_) failed(size.text, error.what());
  }
}

void BackgroundTuning::touch_while_called(const std::filesystem::path& file,
                                          const std::atomic<bool>& over) {
  // A new time, whether it was there or not; first for the call that asked.
  const auto touch = [&] { std::ofstream(file).put('\n'); };
  touch();
  for (uint64_t before = calls_; !over; std::this_thread::sleep_for(kLookEvery)) {
    const uint64_t now = calls_.load(std::memory_order_relaxed);
    if (now != std::exchange(before, now)) touch();
  }
}

}  // namespace mlx_kd::runtime
