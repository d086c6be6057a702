// Things that are made once per process for a key, however many threads ask.
#pragma once

#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string>

namespace mlx_kd::devices {

template <class T>
class OncePerKey {
 public:
  using Made = std::shared_ptr<const T>;

  // What `make` returned for the key. The first to ask makes it and holds no lock meanwhile; the
  // others wait. What it throws, all of them get; the next to ask tries again.
  template <class Make>
  Made get(const std::string& key, const Make& make) {
    std::promise<Made> mine;
    {
      std::unique_lock lock(mutex_);
      const auto [at, is_new] = made_.try_emplace(key);
      if (!is_new) {
        const std::shared_future<Made> theirs = at->second;
        lock.unlock();
        return theirs.get();
      }
      at->second = mine.get_future().share();
    }
    try {
      const Made made = make();
      mine.set_value(made);
      return made;
    } catch (...) {
      mine.set_exception(std::current_exception());
      const std::lock_guard lock(mutex_);
      made_.erase(key);
      throw;
    }
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::shared_future<Made>> made_;
};

}  // namespace mlx_kd::devices
