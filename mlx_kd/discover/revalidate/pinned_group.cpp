#include "mlx_kd/discover/revalidate/pinned_group.h"

#include <algorithm>

#include "mlx_kd/base/error.h"
#include "mlx_kd/discover/choice.h"

namespace mlx_kd::discover {
namespace {

// The id of the candidate that a fresh entry was made from: a body has one of its own.
std::string found_as(const packs::Entry& entry) {
  const auto id = entry.other.find("found_as");
  return id != entry.other.end() ? id->get<std::string>() : entry.candidate_id;
}

// What this program does not know stays.
void keep_other(const packs::Entry& before, packs::Entry& now) {
  base::Json other = before.other;
  const auto id = now.other.find("found_as");
  if (id != now.other.end()) other["found_as"] = *id;
  now.other = std::move(other);
}

// A body holds the model's numbers, and is made again with those that are timed.
void check_numbers(const packs::Entry& entry, const spec::Op& op) {
  if (!spec::is_metal_body(entry.language, entry.launch_params)) return;
  for (const auto& input : op.scalars)
    if (entry.runtime_inputs.value(input.name, base::Json(input.default_value)) !=
        base::Json(input.default_value))
      base::misuse("discover", "its " + input.name + " is not " +
                                   base::Json(input.default_value).dump() +
                                   ", with which kernels are timed");
}

bool same_dims(const shapes::DimRanges& a, const shapes::DimRanges& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const auto& one, const auto& other) { return one.dim == other.dim; });
}

}  // namespace

PinnedGroup::PinnedGroup(const spec::Op& op, std::shared_ptr<const devices::Device> device,
                         const std::string& dtype)
    : op_(&op), device_(std::move(device)), dtype_(spec::parse_float_dtype(dtype)) {}

void PinnedGroup::add(const packs::Entry& entry, size_t index) {
  const auto sizes = proved_sizes(entry, *op_);
  check_numbers(entry, *op_);
  const Member member{entry, candidate_of(entry, *op_), stated_ranges(entry, *op_)};
  for (const spec::Dims& size : sizes) add_finalist(size_index(size), member.candidate);
  members_.emplace(index, member);
}

size_t PinnedGroup::size_index(const spec::Dims& dims) {
  const auto found = std::find(sizes_.begin(), sizes_.end(), dims);
  if (found != sizes_.end()) return static_cast<size_t>(found - sizes_.begin());
  sizes_.push_back(dims);
  finalists_.emplace_back();
  return sizes_.size() - 1;
}

void PinnedGroup::add_finalist(size_t size, const spec::Candidate& candidate) {
  auto& of_size = finalists_[size];
  const std::string id = candidate.id();
  if (std::none_of(of_size.begin(), of_size.end(), [&](const auto& c) { return c.id() == id; }))
    of_size.push_back(candidate);
}

bool PinnedGroup::covers(const Member& member, const spec::Dims& size) const {
  return shapes::holds(member.ranges, size) &&
         shapes::rest_of(*op_, member.ranges, size) ==
             shapes::rest_of(*op_, member.ranges, member.entry.key.shape_signature);
}

// A range needs its kernel claimed at every size of the group that lies within it.
void PinnedGroup::add_range(const Member& member) {
  for (size_t s = 0; s < sizes_.size(); ++s)
    if (covers(member, sizes_[s])) add_finalist(s, member.candidate);
}

// All ranges of the same dims in one; disjoint ones stay apart, as their kernels do.
std::vector<shapes::DimRanges> PinnedGroup::hulls() const {
  std::vector<shapes::DimRanges> result;
  for (const auto& [index, member] : members_) {
    if (member.ranges.empty()) continue;
    const auto known =
        std::find_if(result.begin(), result.end(),
                     [&mine = member.ranges](const auto& hull) { return same_dims(hull, mine); });
    if (known == result.end()) {
      result.push_back(member.ranges);
      continue;
    }
    for (size_t i = 0; i < known->size(); ++i)
      (*known)[i] = {(*known)[i].dim, std::min((*known)[i].lo, member.ranges[i].lo),
                     std::max((*known)[i].hi, member.ranges[i].hi)};
  }
  return result;
}

// Kernels whose ranges overlap and were sampled at different values meet at all combinations.
void PinnedGroup::complete(const shapes::DimRanges& hull) {
  std::vector<spec::Dims> sizes = sizes_;
  shapes::complete_grids(*op_, hull, sizes);
  for (const spec::Dims& size : sizes)
    if (std::any_of(members_.begin(), members_.end(), [&](const auto& member) {
          return same_dims(member.second.ranges, hull) && covers(member.second, size);
        }))
      size_index(size);
}

void PinnedGroup::measure(uint64_t seed, Listener& listener, Interrupt& interrupt) {
  for (const shapes::DimRanges& hull : hulls()) complete(hull);
  for (const auto& [index, member] : members_)
    if (!member.ranges.empty()) add_range(member);
  listener.stage("proving and timing " + op_->name + " " + spec::name_of(dtype_) + " at " +
                 std::to_string(sizes_.size()) + (sizes_.size() == 1 ? " size" : " sizes"));
  evaluate::EvaluateOptions options;
  options.seed = seed;
  const auto evaluator =
      evaluate::make_evaluator({op_, device_->id().kind, dtype_, sizes_}, options);
  const Interrupt::Attached attached(interrupt, *evaluator);
  claims_ = evaluator->claims(finalists_);
  if (!interrupt.raised()) take(*evaluator);
}

// Those of other dims in turn: an entry states one box.
std::vector<RangeClaim> PinnedGroup::choose(
    const std::vector<const evaluate::Claim*>& winners) const {
  std::vector<RangeClaim> result;
  std::set<size_t> taken;
  for (const shapes::DimRanges& hull : hulls())
    for (RangeClaim& range : choose_ranges(*op_, hull, claims_, sizes_, winners, taken)) {
      taken.insert(range.size);
      result.push_back(std::move(range));
    }
  return result;
}

void PinnedGroup::take(const evaluate::Evaluator& evaluator) {
  runtime_ = evaluator.runtime();
  auto winners = choose_winners(claims_, sizes_);
  const std::vector<RangeClaim> ranges = choose(winners);
  for (const RangeClaim& range : ranges) winners[range.size] = range.claim;
  for (size_t s = 0; s < winners.size(); ++s) {
    if (!winners[s]) continue;
    const auto candidate =
        std::find_if(finalists_[s].begin(), finalists_[s].end(),
                     [&](const auto& c) { return c.id() == winners[s]->candidate_id; });
    packs::Entry& pin =
        entries_.emplace_back(pin_of({op_, device_.get(), &evaluator}, *candidate, *winners[s]));
    for (const RangeClaim& range : ranges)
      if (range.size == s && !spec::is_metal_body(pin.language, pin.launch_params))
        packs::set_ranges(pin, range.ranges, op_->batch_dim);
    for (const auto& [index, member] : members_)
      if (member.entry.key.shape_signature == sizes_[s] &&
          member.candidate.id() == found_as(entries_.back()))
        keep_other(member.entry, entries_.back());
  }
}

Revalidated PinnedGroup::outcome(size_t index) const {
  using Kind = Revalidated::Kind;
  const Member& member = members_.at(index);
  const spec::Dims& size = member.entry.key.shape_signature;
  const std::string id = member.candidate.id();
  Revalidated result{Kind::dropped, member.entry, {}, ""};
  for (const auto& claim : claims_)
    if (claim.candidate_id == id && claim.dims == size) {
      result.now = claim.metrics;
      result.why = claim.reason;
    }
  for (const auto& entry : entries_)
    if (entry.key.shape_signature == size) {
      result.kind = found_as(entry) == id ? Kind::proved : Kind::replaced;
      if (result.kind == Kind::replaced) result.why = entry.candidate_id + " serves this size";
    }
  return result;
}

std::vector<size_t> PinnedGroup::members() const {
  std::vector<size_t> result;
  for (const auto& [index, member] : members_) result.push_back(index);
  return result;
}

}  // namespace mlx_kd::discover
