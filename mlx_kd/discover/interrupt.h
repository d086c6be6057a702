// How a run is asked to end early, from another thread.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <utility>

#include "mlx_kd/evaluate/evaluator.h"

namespace mlx_kd::discover {

class Interrupt {
 public:
  // Any thread, any number of times: the run ends at the next step, the evaluation in flight is
  // abandoned.
  void raise() {
    raised_ = true;
    const std::lock_guard lock(mutex_);
    if (evaluator_) evaluator_->interrupt();
    if (also_) also_();
  }
  bool raised() const { return raised_; }
  const std::atomic<bool>& flag() const { return raised_; }  // true once it was raised

  // What raise() calls too, from the thread that raises; nullptr: nothing.
  void call_also(std::function<void()> also) {
    const std::lock_guard lock(mutex_);
    also_ = std::move(also);
  }

  // The evaluator at work, for as long as the guard lives.
  class Attached {
   public:
    Attached(Interrupt& interrupt, evaluate::Evaluator& evaluator) : interrupt_(interrupt) {
      set(&evaluator);
    }
    ~Attached() { set(nullptr); }
    Attached(const Attached&) = delete;
    Attached& operator=(const Attached&) = delete;

   private:
    void set(evaluate::Evaluator* evaluator) {
      const std::lock_guard lock(interrupt_.mutex_);
      interrupt_.evaluator_ = evaluator;
    }
    Interrupt& interrupt_;
  };

 private:
  std::atomic<bool> raised_{false};
  std::mutex mutex_;
  evaluate::Evaluator* evaluator_ = nullptr;
  std::function<void()> also_;
};

}  // namespace mlx_kd::discover
