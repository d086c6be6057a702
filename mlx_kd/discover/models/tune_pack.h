// The pack of a tuning: winners of searches, and default kernels where those do not serve.
#pragma once

#include "mlx_kd/packs/pack.h"

namespace mlx_kd::discover {

// `searched`, and of `defaults`, the winners of runs of default kernels over ranges, what serves
// other sizes. A range whose entry has a size that `searched` serves is stated by another entry of
// its kernel; entries of sizes inside a range of the same kernel are left out.
packs::Pack with_defaults(packs::Pack searched, const packs::Pack& defaults);

}  // namespace mlx_kd::discover
