// Calls of metal_kernel with every access watched, in programs that ask for it.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "mlx_kd/devices/metal_text/launch_options.h"
#include "mlx_kd/devices/metal_text/metal_body.h"

namespace mlx_kd::devices::simt {

struct Watch {
  bool races = false;
  bool memory = false;
  ThreadOrder order = ThreadOrder::forward;  // of the calls themselves too
  uint64_t seed = 0;
  double budget_s = 1;  // for each kernel and signature: so many threadgroups are watched
  bool print = true;    // what is found, on stderr, when it is found

  bool watches() const { return races || memory; }
};

// "races,memory", "races", "memory", "none" or "", and an order: "forward", "reverse", "random".
// Misuse for anything else.
Watch parse_watch(const std::string& checks, const std::string& order);

// Of this process: those of MLX_KD_METAL_CHECK until something else is set. Thread-safe.
void set_watch(const Watch& watch);
// That of the innermost WatchScope of this thread, else of the process. Misuse for a
// MLX_KD_METAL_CHECK that is none.
Watch current_watch();

class WatchScope {
 public:
  explicit WatchScope(const std::optional<Watch>& watch);
  ~WatchScope();
  WatchScope(const WatchScope&) = delete;
  WatchScope& operator=(const WatchScope&) = delete;

 private:
  std::optional<Watch> before_;
};

// What came of watching one kernel at one signature.
struct WatchReport {
  std::string kernel;
  Size3 grid{}, threadgroup{};
  uint64_t groups = 0;   // of the call
  uint64_t watched = 0;  // of them
  std::vector<std::string> findings;
  std::string note;  // why it was not watched; "" if it was
};

// The reports since they were last taken, in order. Thread-safe.
std::vector<WatchReport> take_reports();

// Memory of a buffer: `before` bytes in front of the pointer and `behind` from it on.
struct WatchedBuffer {
  void* at = nullptr;
  size_t before = 0, behind = 0;
};

// Runs copies of a call's buffers watched, at the first call of each kernel, grid and sizes. Adds a
// report; never throws.
void watch_call(const MetalBody& body, const std::string& name,
                const std::vector<WatchedBuffer>& buffers, Size3 grid, Size3 group,
                const Watch& watch);

}  // namespace mlx_kd::devices::simt
