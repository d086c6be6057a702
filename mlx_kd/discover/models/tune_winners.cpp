#include "mlx_kd/discover/models/tune_winners.h"

#include <algorithm>

#include "mlx_kd/base/sha256.h"
#include "mlx_kd/discover/models/tune_pack.h"

namespace mlx_kd::discover {
namespace {

namespace fs = std::filesystem;

packs::Pack winners_in(const fs::path& folder) {
  std::error_code ignored;
  if (!fs::exists(folder / "best_kernels.json", ignored)) return {};
  return packs::read_winners(folder);
}

packs::Pack merged(const std::vector<packs::Origin>& origins) {
  return origins.empty() ? packs::Pack() : packs::merge(origins).pack;
}

void add_winners(const std::string& name, const packs::Pack& pack,
                 std::vector<packs::Origin>& origins) {
  if (!pack.entries.empty()) origins.push_back({name, pack});
}

}  // namespace

TuneWinners::TuneWinners(const TuneRequest& request, const TuneState& state) : request_(request) {
  for (const ModelUse& use : request.uses.uses) {
    const UseState* const known = state.find(use);
    if (!known || !known->by_default) continue;
    Found found;
    found.use = &use;
    found.by_default = winners_in(state.folder(use, kDefaultRun));
    if (known->search && known->search->found) {
      const fs::path run = state.folder(use, kSearchRun);
      found.searched = winners_in(run);
      found.candidate_id = known->search->found->candidate_id;
      if (known->by_default->won) found.gains.read(run);
    }
    found_.push_back(std::move(found));
  }
}

packs::Pack TuneWinners::gainers(const Found& found, double least_gain) const {
  packs::Pack pack = found.searched;
  found.gains.keep_gainers(least_gain, pack);
  return pack;
}

// Keys of a cache are of the first pass of their kind.
std::set<size_t> TuneWinners::passes_of(const ModelUse& use, const packs::Entry& entry) const {
  const size_t steps = request_.sizes.rows.size();
  if (use.prompt || use.sizes.size() != steps || is_over_keys(*use.op)) return {main_pass(use)};
  const std::string& dim = use.op->batch_dim;
  const auto ranges = packs::ranges_of(entry, dim);
  const auto range = ranges.find(dim);
  std::set<size_t> result;
  for (size_t i = 0; i < steps; ++i) {
    const int64_t rows = use.sizes[i].at(dim);
    if (rows == entry.key.shape_signature.at(dim) ||
        (range != ranges.end() && range->second.lo <= rows && rows <= range->second.hi))
      result.insert(i);
  }
  return result.empty() ? std::set<size_t>{0} : result;
}

UsesByPass TuneWinners::to_try() const {
  UsesByPass result(discover::passes_of(request_.sizes).size());
  for (const Found& found : found_)
    if (found.use->calls > 0)
      for (const packs::Entry& entry : gainers(found, kLeastTried).entries)
        for (const size_t pass : passes_of(*found.use, entry)) result[pass].insert(found.use->name);
  return result;
}

std::string TuneWinners::text_of_tried() const {
  base::Json all = base::Json::object();
  for (const Found& found : found_)
    for (const packs::Entry& entry : gainers(found, kLeastTried).entries)
      all[found.use->name].push_back({entry.candidate_id, entry.key.shape_signature.json()});
  return base::sha256_hex(base::canonical_json(all)).substr(0, 16);
}

bool TuneWinners::gained(const ModelUse& use, double least_gain) const {
  const auto at = std::find_if(found_.begin(), found_.end(),
                               [&](const Found& found) { return found.use == &use; });
  return at != found_.end() && !at->candidate_id.empty() &&
         at->gains.is_enough(least_gain, at->candidate_id, use.sizes.front());
}

packs::Pack TuneWinners::pack_of_kept(const UsesByPass& kept,
                                      const std::set<size_t>& without_pins) const {
  std::vector<packs::Origin> searched;
  for (const Found& found : found_) {
    if (without_pins.count(main_pass(*found.use))) continue;
    packs::Pack pack = gainers(found, kLeastTried);
    std::erase_if(pack.entries, [&](const packs::Entry& entry) {
      const auto passes = passes_of(*found.use, entry);
      return !std::all_of(passes.begin(), passes.end(),
                          [&](size_t pass) { return kept.at(pass).count(found.use->name) > 0; });
    });
    add_winners(found.use->name, pack, searched);
  }
  return with(searched, without_pins);
}

packs::Pack TuneWinners::pack_by_gain() const {
  std::vector<packs::Origin> searched;
  for (const Found& found : found_)
    add_winners(found.use->name, gainers(found, kLeastGain), searched);
  return with(searched, {});
}

packs::Pack TuneWinners::with(const std::vector<packs::Origin>& searched,
                              const std::set<size_t>& without_pins) const {
  if (request_.device == "null") return {};
  std::vector<packs::Origin> by_default;
  for (const Found& found : found_)
    if (!without_pins.count(main_pass(*found.use)))
      add_winners(found.use->name, found.by_default, by_default);
  return with_defaults(merged(searched), merged(by_default));
}

}  // namespace mlx_kd::discover
