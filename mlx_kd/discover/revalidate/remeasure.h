// Decides on this machine what merged runs disagree on.
#pragma once

#include <vector>

#include "mlx_kd/discover/revalidate/revalidate.h"

namespace mlx_kd::discover {

struct Remeasured {
  bool interrupted = false;          // then `pack` is the merged one
  packs::Pack pack;                  // the merged one, with what was measured in its place
  std::vector<Revalidated> entries;  // one per contested kernel, in the order of `contested`
};

// Proves and times each kernel of `contested` (see packs::contested) that is pinned for this
// device, target and version of MLX. The fastest one that is correct and surely faster than MLX
// takes the place of the pin's entry in `merged`; if there is none, the entry goes. Kernels for
// other devices or versions are kept, and `why` says so.
Remeasured remeasure(const packs::Pack& merged, const packs::Pack& contested, uint64_t seed,
                     Listener& listener, Interrupt& interrupt);

}  // namespace mlx_kd::discover
