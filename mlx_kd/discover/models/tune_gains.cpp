#include "mlx_kd/discover/models/tune_gains.h"

#include <cmath>

#include "mlx_kd/archive/run/run_reader.h"

namespace mlx_kd::discover {
namespace {

std::pair<std::string, std::string> key_of(const std::string& candidate_id,
                                           const spec::Dims& size) {
  return {candidate_id, size.json().dump()};  // the order of names does not matter
}

}  // namespace

void TuneGains::read(const std::filesystem::path& run) {
  for (const archive::Record& record : archive::read_run(run).records)
    for (const auto& size : record.verdict.sizes)
      log_ratios_[key_of(record.candidate_id, size.dims)] = size.metrics.log_ratio;
}

bool TuneGains::is_enough(double least_gain, const std::string& candidate_id,
                          const spec::Dims& size) const {
  const auto found = log_ratios_.find(key_of(candidate_id, size));
  return found == log_ratios_.end() || found->second <= -std::log(least_gain);
}

void TuneGains::keep_gainers(double least_gain, packs::Pack& pack) const {
  std::erase_if(pack.entries, [&](const packs::Entry& entry) {
    return !is_enough(least_gain, entry.candidate_id, entry.key.shape_signature);
  });
}

}  // namespace mlx_kd::discover
