#include "mlx_kd/discover/pinned_group.h"

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

// A body holds the model's numbers, and is made anew with those that are timed.
void check_numbers(const packs::Entry& entry, const spec::Op& op) {
  if (!spec::is_metal_body(entry.language, entry.launch_params)) return;
  for (const auto& input : op.scalars)
    if (entry.runtime_inputs.value(input.name, base::Json(input.default_value)) !=
        base::Json(input.default_value))
      base::misuse("discover", "its " + input.name + " is not " +
                                   base::Json(input.default_value).dump() +
                                   ", with which kernels are timed");
}

spec::Dims with_rows(const spec::Op& op, const spec::Dims& size, int64_t rows) {
  spec::Dims own;
  for (const std::string& name : op.dim_names()) own.set(name, size.at(name));
  own.set(op.batch_dim, rows);
  return shapes::checked_size(op, own);
}

}  // namespace

PinnedGroup::PinnedGroup(const spec::Op& op, std::shared_ptr<const devices::Device> device,
                         const std::string& dtype)
    : op_(&op), device_(std::move(device)), dtype_(spec::parse_float_dtype(dtype)) {}

void PinnedGroup::add(const packs::Entry& entry, size_t index) {
  const spec::Dims size = size_of(entry, *op_);
  check_numbers(entry, *op_);
  const Member member{entry, candidate_of(entry, *op_)};
  if (entry.rows_range)
    for (int64_t rows : entry.rows_range->sampled) with_rows(*op_, size, rows);
  add_finalist(size_index(size), member.candidate);
  if (entry.rows_range)
    for (int64_t rows : entry.rows_range->sampled)
      add_finalist(size_index(with_rows(*op_, size, rows)), member.candidate);
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

// A range needs its kernel claimed at every size of the group that lies within it.
void PinnedGroup::add_range(const Member& member) {
  const auto& range = *member.entry.rows_range;
  const std::string rest = shapes::rest_of(*op_, member.entry.key.shape_signature);
  for (size_t s = 0; s < sizes_.size(); ++s) {
    const int64_t rows = sizes_[s].at(op_->batch_dim);
    if (rows >= range.lo && rows <= range.hi && shapes::rest_of(*op_, sizes_[s]) == rest)
      add_finalist(s, member.candidate);
  }
}

// All ranges of the group in one; disjoint ones stay apart, as their kernels do.
std::optional<shapes::RowRange> PinnedGroup::hull() const {
  std::optional<shapes::RowRange> result;
  for (const auto& [index, member] : members_)
    if (const auto& range = member.entry.rows_range)
      result = result ? shapes::RowRange{std::min(result->lo, range->lo),
                                         std::max(result->hi, range->hi)}
                      : shapes::RowRange{range->lo, range->hi};
  return result;
}

void PinnedGroup::measure(uint64_t seed, Listener& listener, Interrupt& interrupt) {
  for (const auto& [index, member] : members_)
    if (member.entry.rows_range) add_range(member);
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

void PinnedGroup::take(const evaluate::Evaluator& evaluator) {
  runtime_ = evaluator.runtime();
  auto winners = choose_winners(claims_, sizes_);
  std::vector<RangeClaim> ranges;
  if (const auto range = hull()) ranges = choose_ranges(*op_, *range, claims_, sizes_, winners);
  for (const RangeClaim& range : ranges) winners[range.size] = range.claim;
  for (size_t s = 0; s < winners.size(); ++s) {
    if (!winners[s]) continue;
    const auto candidate =
        std::find_if(finalists_[s].begin(), finalists_[s].end(),
                     [&](const auto& c) { return c.id() == winners[s]->candidate_id; });
    entries_.push_back(pin_of({op_, device_.get(), &evaluator}, *candidate, *winners[s]));
    for (const RangeClaim& range : ranges)
      if (range.size == s) entries_.back().rows_range = range.rows;
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
