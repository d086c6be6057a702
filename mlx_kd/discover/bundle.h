// CPU winners compiled ahead of time: a pack that needs no compiler where it is used.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "mlx_kd/packs/pack.h"

namespace mlx_kd::discover {

struct BundledEntry {
  std::string title;  // of the entry, as messages call it
  std::string candidate_id;
  size_t bytes = 0;  // of its object; 0: it was left out
  std::string why;   // it was left out
};

struct Bundle {
  packs::Pack pack;                   // the entries that were bundled, with their objects
  std::vector<BundledEntry> entries;  // one per entry of the pack, in its order
};

// Levels that `bundle` takes in addition to "native", lowest first; none where this is not
// x86-64.
std::vector<std::string> instruction_set_levels();

// Compiles every entry that this CPU, MLX and build can run for `march` (an instruction-set level
// of this device_arch, or "native"), proves it again as a run does, at its own size and at the
// sampled ones of its range, and puts the object into it; its target then asks for what the object
// needs. Entries of other devices and languages, and what does not compile or prove, are left out.
// Misuse where `march` is not a level, or this CPU lacks it. Sets MLX_KD_MARCH of the process.
Bundle bundle(const packs::Pack& pack, const std::string& march);

}  // namespace mlx_kd::discover
