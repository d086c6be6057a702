// The entries of a pack that are measured together: one op, type and device.
#pragma once

#include <map>
#include <memory>

#include "mlx_kd/discover/dim_ranges.h"
#include "mlx_kd/discover/make_entry.h"
#include "mlx_kd/discover/revalidate/revalidate.h"

namespace mlx_kd::discover {

class PinnedGroup {
 public:
  // Misuse if `dtype` names no type.
  PinnedGroup(const spec::Op& op, std::shared_ptr<const devices::Device> device,
              const std::string& dtype);

  // `index`: its place in the pack. Misuse where it cannot be measured: damaged, without a size, a
  // kernel that the op no longer has. Nothing is taken then.
  void add(const packs::Entry& entry, size_t index);

  // Compiles, proves and times all of them.
  void measure(uint64_t seed, Listener& listener, Interrupt& interrupt);

  // After measure(): what became of a member, and what the new pack takes.
  Revalidated outcome(size_t index) const;
  const std::vector<packs::Entry>& entries() const { return entries_; }
  const base::Json& runtime() const { return runtime_; }

  std::vector<size_t> members() const;
  const devices::Device& device() const { return *device_; }

 private:
  struct Member {
    packs::Entry entry;
    spec::Candidate candidate;
    shapes::DimRanges ranges;
  };
  size_t size_index(const spec::Dims& dims);
  void add_finalist(size_t size, const spec::Candidate& candidate);
  bool covers(const Member& member, const spec::Dims& size) const;
  void add_range(const Member& member);
  std::vector<shapes::DimRanges> hulls() const;
  void complete(const shapes::DimRanges& hull);
  std::vector<RangeClaim> choose(const std::vector<const evaluate::Claim*>& winners) const;
  void take(const evaluate::Evaluator& evaluator);

  const spec::Op* op_;
  std::shared_ptr<const devices::Device> device_;
  spec::Dtype dtype_;
  std::map<size_t, Member> members_;  // by their place in the pack
  std::vector<spec::Dims> sizes_;
  std::vector<std::vector<spec::Candidate>> finalists_;  // of each size
  std::vector<evaluate::Claim> claims_;
  std::vector<packs::Entry> entries_;
  base::Json runtime_ = base::Json::object();
};

}  // namespace mlx_kd::discover
