#include "mlx_kd/runtime/pins/table.h"

#include <algorithm>
#include <limits>

#include "mlx_kd/spec/order.h"

namespace mlx_kd::runtime {
namespace {

bool fits_params(const Pin& pin, const Query& query) {
  return !pin.fixed_params || pin.params == query.params;
}

bool in_range(const Pin& pin, const Query& query) {
  if (pin.key.op != query.op || pin.key.dtype != query.dtype || pin.key.place != query.place)
    return false;
  return holds(pin, query.dims);
}

// How many sizes it serves, which orders ranges: an entry for any size comes last.
double width(const Pin& pin) {
  if (pin.any_size) return std::numeric_limits<double>::infinity();
  double sizes = 1;
  for (const Range& range : pin.ranges) sizes *= static_cast<double>(range.hi - range.lo + 1);
  return sizes;
}

}  // namespace

Table::Table(const std::vector<packs::Pack>& packs, bool allow_approximate) {
  for (const packs::Pack& pack : packs)
    for (const packs::Entry& entry : pack.entries) add(entry, allow_approximate);
  order();
  fill_slots();
  for (const Pin& pin : pins_)
    if (pin.fixed_params) {
      fixes_params_.resize(std::max<size_t>(fixes_params_.size(), pin.key.op + 1u));
      fixes_params_[pin.key.op] = true;
    }
}

void Table::add(const packs::Entry& entry, bool allow_approximate) {
  auto found = pins_of(entry, allow_approximate);
  if (auto* skipped = std::get_if<Skipped>(&found)) return skipped_.push_back(std::move(*skipped));
  for (Pin& pin : std::get<std::vector<Pin>>(found)) pins_.push_back(std::move(pin));
}

void Table::order() {
  std::stable_sort(pins_.begin(), pins_.end(), [](const Pin& a, const Pin& b) {
    return std::memcmp(&a.key, &b.key, offsetof(Query, params)) < 0;
  });
  for (size_t begin = 0; begin < pins_.size();) {
    size_t end = begin + 1;
    while (end < pins_.size() && pins_[end].key.same_size(pins_[begin].key)) ++end;
    if (end - begin > 1) {
      std::vector<spec::Ranked> group;
      for (size_t i = begin; i < end; ++i)
        group.push_back({&pins_[i].entry.metrics, pins_[i].entry.candidate_id});
      std::vector<Pin> best_first;
      for (const size_t i : spec::rank(group)) best_first.push_back(std::move(pins_[begin + i]));
      std::move(best_first.begin(), best_first.end(),
                pins_.begin() + static_cast<std::ptrdiff_t>(begin));
    }
    begin = end;
  }
}

void Table::fill_slots() {
  size_t count = 2;
  while (count < 2 * pins_.size()) count *= 2;
  slots_.assign(count, Slot{});
  for (size_t i = 0; i < pins_.size(); ++i) {
    if (!pins_[i].ranges.empty() || pins_[i].any_size) ranged_.push_back(static_cast<uint32_t>(i));
    if (pins_[i].served) {  // its own index was not known before
      auto served = std::make_shared<Served>(*pins_[i].served);
      served->pin = i;
      pins_[i].served = std::move(served);
    }
    if (pins_[i].any_size || (i > 0 && pins_[i].key.same_size(pins_[i - 1].key))) continue;
    const uint64_t hash = hash_of(pins_[i].key);
    size_t at = hash & (count - 1);
    while (slots_[at].pin) at = (at + 1) & (count - 1);
    slots_[at] = {static_cast<uint32_t>(hash >> 32), static_cast<uint32_t>(i + 1)};
  }
  std::stable_sort(ranged_.begin(), ranged_.end(),
                   [&](uint32_t a, uint32_t b) { return width(pins_[a]) < width(pins_[b]); });
}

const Pin* Table::find(const Query& query, uint64_t hash) const {
  const size_t mask = slots_.size() - 1;
  const auto tag = static_cast<uint32_t>(hash >> 32);
  for (size_t at = hash & mask; slots_[at].pin; at = (at + 1) & mask) {
    if (slots_[at].tag != tag) continue;
    const Pin* pin = &pins_[slots_[at].pin - 1];
    if (!pin->key.same_size(query)) continue;
    for (const Pin* end = pins_.data() + pins_.size(); pin < end && pin->key.same_size(query);
         ++pin)
      if (fits_params(*pin, query)) return pin;
    return nullptr;
  }
  return nullptr;
}

const Pin* Table::find_ranged(const Query& query) const {
  for (const uint32_t index : ranged_)
    if (in_range(pins_[index], query) && fits_params(pins_[index], query)) return &pins_[index];
  return nullptr;
}

const Pin* Table::nearest(const Query& query) const {
  const Pin* best = nullptr;
  size_t fewest = std::numeric_limits<size_t>::max();
  for (const Pin& pin : pins_) {
    if (pin.key.op != query.op) continue;
    const size_t count = differences(pin, query).size();
    if (count < fewest) best = &pin;
    fewest = std::min(fewest, count);
  }
  return best;
}

}  // namespace mlx_kd::runtime
