// The search space of an op on a device: all variants that the device takes, joined into one.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/spec/op/candidate.h"

namespace mlx_kd::discover {

// With several variants the joined space has a choice knob "variant" in front, and the knobs of
// each variant; those of the others stay at their first value, so that no point represents the same
// candidate as another. Variants of one name in two languages are called "metal/rows", "cuda/rows".
class CandidateSpace {
 public:
  // first_size is complete. Variants that are approximate on purpose take part only if
  // allow_approximate. Misuse (room discover) if no variant is left in any of the device's
  // languages.
  CandidateSpace(const spec::Op& op, const std::vector<std::string>& languages, spec::Dtype dtype,
                 const spec::DeviceTraits& traits, const spec::Dims& first_size,
                 bool allow_approximate = false);

  const spec::Space& space() const { return joined_; }
  spec::Candidate candidate(const spec::Setting& point) const;
  // The kernel that programs run where no pin serves a call (runtime/pins/default_kernel.h): of the
  // variants that are meant for the first size, else of all, the first in the order of the
  // languages, with its default knobs.
  spec::Setting default_point() const;
  // The names of the variants, in the order of the space.
  std::vector<std::string> variants() const;
  // The inverse: the point's setting of a candidate of this op and type.
  spec::Setting point(const spec::Candidate& candidate) const;

 private:
  struct Part {
    const spec::Variant* variant;
    spec::Space space;
  };
  void join();
  void add_constraints_of(size_t part);
  const Part& part_of(const spec::Setting& point) const;
  std::string name_of(const Part& part) const;
  std::string joined_name(const Part& part, const std::string& knob) const;

  const spec::Op* op_;
  spec::Dtype dtype_;
  spec::Dims first_size_;
  std::vector<std::string> languages_;
  std::vector<Part> parts_;
  spec::Space joined_;
};

}  // namespace mlx_kd::discover
