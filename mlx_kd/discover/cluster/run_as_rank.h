// A discovery run as one rank of a cluster (ranks/protocol.h, cluster/folders.h).
#pragma once

#include "mlx_kd/discover/ranks/ranks.h"
#include "mlx_kd/discover/run/run.h"

namespace mlx_kd::discover {

// All ranks are given the same request. Each evaluates its share of the points of its device's
// search; rank 0 writes the run, whose outcome it returns: sizes of its own device, a remark on
// each other device. Other ranks return how much was evaluated. One rank alone (Ranks())
// continues what several began.
//
// Throws ReportedElsewhere where the run ends by an error that another rank reports; else as run().
RunOutcome run_as_rank(const RunRequest& request, Ranks& ranks, Listener& listener,
                       Interrupt& interrupt);

}  // namespace mlx_kd::discover
