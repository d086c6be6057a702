#include "mlx_kd/discover/models/tune_pack.h"

#include <algorithm>

#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::discover {
namespace {

using Ranges = std::map<std::string, packs::DimRange>;

Ranges stated_ranges_of(const packs::Entry& entry) {
  return packs::ranges_of(entry, kernels::find_op(entry.key.op_name).batch_dim);
}

bool is_ranged(const packs::Entry& entry) {
  return entry.rows_range || !entry.ranges.empty();
}

// Whether an entry serves the size of another one, on the same machine.
bool serves(const packs::Entry& entry, const packs::Entry& other) {
  const Ranges ranges = stated_ranges_of(entry);
  spec::PinKey key = other.key;
  key.shape_signature = entry.key.shape_signature;
  if (!(key == entry.key) || entry.contract != other.contract) return false;
  for (const std::string& dim : kernels::find_op(key.op_name).dim_names()) {
    const auto range = ranges.find(dim);
    const int64_t own = entry.key.shape_signature.at(dim),
                  value = other.key.shape_signature.at(dim);
    const bool holds = value == own || (range != ranges.end() && range->second.lo <= value &&
                                        value <= range->second.hi);
    if (!holds) return false;
  }
  return true;
}

// Another entry of the kernel of `ranged` inside its ranges, which states none.
packs::Entry* stand_in(const packs::Entry& ranged, std::vector<packs::Entry>& entries) {
  for (packs::Entry& entry : entries)
    if (!is_ranged(entry) && entry.candidate_id == ranged.candidate_id && serves(ranged, entry))
      return &entry;
  return nullptr;
}

void drop_inside_ranges(std::vector<packs::Entry>& entries) {
  std::vector<packs::Entry> ranged;
  std::copy_if(entries.begin(), entries.end(), std::back_inserter(ranged), is_ranged);
  std::erase_if(entries, [&](const packs::Entry& entry) {
    return !is_ranged(entry) &&
           std::any_of(ranged.begin(), ranged.end(), [&](const packs::Entry& wide) {
             return wide.candidate_id == entry.candidate_id && serves(wide, entry);
           });
  });
}

}  // namespace

packs::Pack with_defaults(packs::Pack searched, const packs::Pack& defaults) {
  if (searched.entries.empty()) searched.runtime = defaults.runtime;
  const std::vector<packs::Entry> found = searched.entries;
  std::vector<packs::Entry> others, served;
  for (const packs::Entry& entry : defaults.entries) {
    const bool is_served = std::any_of(found.begin(), found.end(),
                                       [&](const auto& winner) { return serves(winner, entry); });
    (is_served ? served : others).push_back(entry);
  }
  for (const packs::Entry& entry : served)
    if (packs::Entry* const to = is_ranged(entry) ? stand_in(entry, others) : nullptr)
      packs::set_ranges(*to, stated_ranges_of(entry),
                        kernels::find_op(entry.key.op_name).batch_dim);
  drop_inside_ranges(others);
  searched.entries.insert(searched.entries.end(), others.begin(), others.end());
  return searched;
}

}  // namespace mlx_kd::discover
