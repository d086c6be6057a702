#include "mlx_kd/discover/choice.h"

#include <algorithm>
#include <tuple>

#include "mlx_kd/spec/order.h"

namespace mlx_kd::discover {

std::vector<std::vector<spec::Candidate>> choose_finalists(
    const std::vector<archive::Record>& records, size_t sizes, size_t count) {
  std::vector<std::vector<spec::Candidate>> result(sizes);
  for (size_t s = 0; s < sizes; ++s) {
    std::vector<std::tuple<double, std::string, const archive::Record*>> ranked;
    for (const auto& record : records)
      if (record.verdict.status == spec::Status::benchmarked)
        ranked.emplace_back(record.verdict.sizes[s].metrics.log_ratio, record.candidate_id,
                            &record);
    std::sort(ranked.begin(), ranked.end());
    for (size_t i = 0; i < std::min(count, ranked.size()); ++i)
      result[s].push_back(std::get<2>(ranked[i])->candidate);
  }
  return result;
}

std::vector<const evaluate::Claim*> choose_winners(const std::vector<evaluate::Claim>& claims,
                                                   const std::vector<spec::Dims>& sizes) {
  std::vector<const evaluate::Claim*> result;
  for (const auto& size : sizes) {
    std::vector<const evaluate::Claim*> claimed;
    std::vector<spec::Ranked> ranked;
    for (const auto& claim : claims) {
      if (!claim.claimed || !(claim.dims == size)) continue;
      claimed.push_back(&claim);
      ranked.push_back({&claim.metrics, claim.candidate_id});
    }
    result.push_back(claimed.empty() ? nullptr : claimed[spec::rank(ranked).front()]);
  }
  return result;
}

const evaluate::Claim* best_attempt(const std::vector<evaluate::Claim>& claims,
                                    const spec::Dims& size) {
  const evaluate::Claim* best = nullptr;
  for (const auto& claim : claims)
    if (claim.dims == size &&
        (!best || !(claim.metrics.speedup_vs_ref <= best->metrics.speedup_vs_ref)))
      best = &claim;
  return best;
}

}  // namespace mlx_kd::discover
