// Several packs into one: one entry per key, target, contract and approximate
// or not, the best by spec::rank.
#pragma once

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
  Entry entry;
  std::string origin;
  std::string why;  // "slower than rmsnorm_0123456789abcdef: 4.2 us, not 3.1 us"
};

struct MergeResult {
  Pack pack;
  std::vector<Dropped> dropped;  // in the order of key_before, then best first
};

// The result does not depend on the order of `origins`. Misuse where entries of one pin have
// different protocols and prefer_protocol is none of them, or where one comes from the null device.
// Of `other` and `runtime` what all packs agree on is kept; mlx_version, device_name and
// device_arch are "mixed" where they do not.
MergeResult merge(const std::vector<Origin>& origins, const MergeOptions& options = {});

// The runtime of a pack whose entries come from packs of these two runtimes: see merge.
base::Json mixed_runtime(const base::Json& a, const base::Json& b);

}  // namespace mlx_kd::packs
