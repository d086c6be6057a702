// Several packs into one: one entry per key, target, contract and approximate
// or not, the best by spec::rank.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "mlx_kd/packs/pack.h"

namespace mlx_kd::packs {

struct Origin {
  std::string name;  // as the user gave it
  Pack pack;
};

struct MergeOptions {
  // A name, or what older files state. Empty: entries of different protocols are misuse.
  std::string prefer_protocol;
};

struct Dropped {
  size_t winner;  // which of the result's entries was taken: it has the same pin
  std::string candidate_id;
  std::string origin;
  std::string why;  // "slower than rmsnorm_0123456789abcdef: 4.2 us, not 3.1 us"
};

// One kernel was measured by several origins, and the 95 % intervals of its speed-up over MLX do
// not meet.
struct Disagreement {
  struct Side {
    std::string origin;
    double speedup, lo, hi;
  };
  size_t winner;             // of the result's entries, the one of the same pin
  std::string candidate_id;  // of the kernel
  Side low, high;            // the two that are furthest apart
};

struct MergeResult {
  Pack pack;                                // entries in the order of key_before
  std::vector<Dropped> dropped;             // in the order of key_before, then best first
  std::vector<Disagreement> disagreements;  // in the order of key_before, then by candidate
};

// Takes packs one after another and keeps of each pin no more than the entries that can still be
// the best: 10,000 packs of 20 entries need about as much memory as what is written.
class Merger {
 public:
  explicit Merger(const MergeOptions& options = {});
  ~Merger();

  // Misuse if an entry is of the null device. Any number of threads may call it.
  void add(const std::string& origin, Pack pack);

  // Once, after the last add(). The result does not depend on the order of the calls. Misuse where
  // entries of one pin have different protocols and prefer_protocol is none of them. Of `other` and
  // `runtime` what all packs agree on is kept; mlx_version, device_name and device_arch are "mixed"
  // where they do not.
  MergeResult finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The same of packs that are in memory.
MergeResult merge(const std::vector<Origin>& origins, const MergeOptions& options = {});

// The runtime of a pack whose entries come from packs of these two runtimes: see Merger.
base::Json mixed_runtime(const base::Json& a, const base::Json& b);

}  // namespace mlx_kd::packs
