// The pins that this process uses now, and the switches that a call looks at.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "mlx_kd/runtime/pins/table.h"
#include "mlx_kd/runtime/state/settings.h"

namespace mlx_kd::runtime {

// Switches, read by every call in one load.
enum Mode : uint32_t {
  kStarted = 1,  // the environment was read
  kPins = 2,
  kWait = 4,
  kShapeLog = 8,
  kDefaults = 16,  // of some operator the default kernel runs without a pin
  kWatched = kPins | kShapeLog | kDefaults,  // somebody looks at the sizes of calls
};

class Process {
 public:
  // Never destroyed: threads may still call while a process ends.
  static Process& shared();

  // The switches. The first call reads the environment and loads the pack; a pack that cannot be
  // loaded is reported once. Throws base::Error where a variable has an invalid value.
  uint32_t modes() {
    const uint32_t modes = modes_.load(std::memory_order_acquire);
    return modes & kStarted ? modes : start();
  }

  // Grows with every change of the table.
  uint64_t generation() const { return generation_.load(std::memory_order_acquire); }
  // Also returns the generation. Takes a lock, once per thread and change.
  std::shared_ptr<const Table> table(uint64_t& generation) const;

  // Whether the setting default_kernels names the op, by its index in all_operators(). Takes a
  // lock: once per size, thread and change.
  bool runs_default(uint16_t op) const;

  // Loads what `change` of the settings given by code, and the environment, ask for, and swaps it
  // in. Throws; then nothing changed.
  void apply(const std::function<Settings(const Settings& given)>& change);
  Settings given() const;  // by code

  // Why the pack of the environment is not loaded, or "".
  std::string error() const;
  std::vector<std::string> files() const;

 private:
  uint32_t start();
  void swap(const Effective& effective, std::shared_ptr<const Table> table, std::string error);

  std::atomic<uint32_t> modes_{0};
  std::atomic<uint64_t> generation_{1};
  std::mutex change_;         // one change at a time
  mutable std::mutex mutex_;  // of what follows; held for copies alone
  Settings given_;
  std::shared_ptr<const Table> table_ = std::make_shared<Table>();
  std::string error_;
  std::vector<std::string> files_;
  std::vector<bool> defaults_;  // by op; those after the last: no
};

}  // namespace mlx_kd::runtime
