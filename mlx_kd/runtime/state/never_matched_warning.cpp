#include "mlx_kd/runtime/state/never_matched_warning.h"

#include <atomic>

#include "mlx_kd/base/log_once.h"
#include "mlx_kd/runtime/pins/describe.h"
#include "mlx_kd/runtime/state/process.h"

namespace mlx_kd::runtime {
namespace {

constexpr uint64_t kStep = 100;  // calls of a thread between two looks at the process's sum

std::atomic<bool> settled{false};  // something matched, or the warning was given
std::atomic<uint64_t> never_matched{0};

}  // namespace

void note_match() {
  if (!settled.load(std::memory_order_relaxed)) settled.store(true, std::memory_order_relaxed);
}

void note_miss(Ledger& ledger, const Query& query) {
  if (++ledger.misses % kStep || settled.load(std::memory_order_relaxed)) return;
  if (never_matched.fetch_add(kStep, std::memory_order_relaxed) + kStep < kCallsBeforeWarning)
    return;
  if (!settled.exchange(true)) {
    std::string text = "WARNING: pins are on and none matched in " +
                       std::to_string(kCallsBeforeWarning) + " calls; the last was " +
                       title_of(query) + ". ";
    const Pin* nearest = ledger.table().nearest(query);
    if (nearest)
      text += "The nearest pin differs: " + differences_text(*nearest, query) + ". ";
    else if (const std::string error = Process::shared().error(); !error.empty())
      text += "The pack is not loaded: " + error + ". ";
    else
      text += "The pack has " + std::to_string(ledger.table().pins().size()) +
              " pins for this process, none of them of this op. ";
    base::log_once("runtime", text + "stats() lists what was called and why nothing matched.");
  }
}

}  // namespace mlx_kd::runtime
