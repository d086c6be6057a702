// Proves and times a pack again, for the current MLX and device.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "mlx_kd/discover/interrupt.h"
#include "mlx_kd/discover/listener.h"
#include "mlx_kd/packs/pack.h"

namespace mlx_kd::discover {

// What became of an entry.
struct Revalidated {
  enum class Kind {
    proved,    // correct here and surely faster than MLX: the new pack has it with new times
    replaced,  // so is another entry of the pack, which is faster at this size
    dropped,   // wrong here, or not surely faster: `why` says which
    kept,      // it cannot be measured here, and is kept as it was: `why`
  };
  Kind kind;
  packs::Entry before;
  spec::Metrics now;  // of its own kernel; unmeasured where it was not timed
  std::string why;
};
std::string name_of(Revalidated::Kind kind);

struct Revalidation {
  bool interrupted = false;          // then nothing is written
  packs::Pack pack;                  // the new one
  std::vector<Revalidated> entries;  // one for each entry of the old pack, in its order
};

// Proves each entry of `pack` again and re-times it against MLX (the claims of a run: a fresh
// process, a fixed sample). What another device or language made is tried here too and kept as
// well; an entry of this device and target is taken over or dropped. Ranges are claimed again at
// their sampled points, and narrowed (or given to another kernel of the pack) where they no longer
// hold; approximate entries compete with one another alone. Where no device takes Metal kernels,
// those are proved on the device simt: one that is wrong there is dropped, the others are kept with
// the times they have. Misuse if the pack has no entries, or holds times of the null device.
Revalidation revalidate(const packs::Pack& pack, uint64_t seed, Listener& listener,
                        Interrupt& interrupt);

// Writes the new pack to `output`, under a lock. Where that is the file it was read from, the old
// text is kept next to it first; the result is that file's name, FILE.old or FILE.old2, ...
std::optional<std::filesystem::path> write_revalidated(const Revalidation& result,
                                                       const std::filesystem::path& input,
                                                       const std::filesystem::path& output);

}  // namespace mlx_kd::discover
