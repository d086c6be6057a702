// From a claim to the entry of a pack.
#pragma once

#include <optional>

#include "mlx_kd/devices/device.h"
#include "mlx_kd/evaluate/evaluator.h"
#include "mlx_kd/packs/entry.h"
#include "mlx_kd/shapes/dim_ranges.h"

namespace mlx_kd::discover {

// Where and how a claim was made.
struct Measuring {
  const spec::Op* op;
  const devices::Device* device;
  const evaluate::Evaluator* evaluator;
};

// A Metal kernel that zmlx.kd knows is written as the body of a metal_kernel for the claim's size,
// with the numbers of a model that were timed as constants, if it has such a form
// (kernels::body_form). Every other kernel is written as the whole file.
packs::Entry pin_of(const Measuring& where, const spec::Candidate& candidate,
                    const evaluate::Claim& claim);

// The op that the entry serves: the table's, or the one that it describes. Misuse where there is
// none.
const spec::Op& op_of(const packs::Entry& entry);

// The size of an entry's key. Misuse (room discover) if the op makes no such size.
spec::Dims size_of(const packs::Entry& entry, const spec::Op& op);

// The ranges that it states, in the op's order. Misuse (room discover) for one of another dim than
// those that may vary.
shapes::DimRanges stated_ranges(const packs::Entry& entry, const spec::Op& op);

// The size of its key, then those at which its ranges were sampled: all combinations of the values
// that it names, the ends of the ranges among them. Misuse (room discover or shapes) as above.
std::vector<spec::Dims> proved_sizes(const packs::Entry& entry, const spec::Op& op);

// The candidate that an entry was made from, for the op as it is now; of a Metal entry, whose size
// must be one of the op's, the whole file. Misuse (room discover) if the op has no such kernel any
// more, has another contract, or the entry is damaged.
spec::Candidate candidate_of(const packs::Entry& entry, const spec::Op& op);

}  // namespace mlx_kd::discover
