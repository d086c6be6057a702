// The one loud warning: pins are on, and nothing ever matched.
#pragma once

#include "mlx_kd/runtime/state/call_counts.h"

namespace mlx_kd::runtime {

inline constexpr uint64_t kCallsBeforeWarning = 1000;

// A call for which there was a pin, or none; while pins are on. Some ns each. The warning names the
// call that it comes with and the nearest pin. Any thread, with its own ledger.
void note_match();
void note_miss(Ledger& ledger, const Query& query);

}  // namespace mlx_kd::runtime
