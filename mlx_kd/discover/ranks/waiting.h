// For threads that watch others: how long someone has been silent, and a way to be woken.
#pragma once

#include <cstdint>

#include "mlx_kd/base/clock.h"

namespace mlx_kd::discover {

// A watcher that was itself stopped (SIGSTOP, a machine asleep) has heard no rank, and that is not
// their fault: time in which it did not look does not count.
class Watched {
 public:
  // Called at every turn of the watcher's loop, which takes at most longest_s while it runs.
  void look(double longest_s) {
    const int64_t now = base::steady_ns();
    const double away = 1e-9 * static_cast<double>(now - looked_ns_) - longest_s;
    if (away > 1) missed_ns_ += now - looked_ns_;
    looked_ns_ = now;
  }
  // Steady time without what was missed.
  int64_t now_ns() const { return base::steady_ns() - missed_ns_; }
  double since(int64_t ns) const { return 1e-9 * static_cast<double>(now_ns() - ns); }

 private:
  int64_t looked_ns_ = base::steady_ns(), missed_ns_ = 0;
};

// Wakes a thread that polls fd().
class WakePipe {
 public:
  WakePipe();
  ~WakePipe();
  WakePipe(const WakePipe&) = delete;
  WakePipe& operator=(const WakePipe&) = delete;
  int fd() const { return ends_[0]; }
  void wake() const;
  void clear() const;  // of what woke it

 private:
  int ends_[2];
};

}  // namespace mlx_kd::discover
