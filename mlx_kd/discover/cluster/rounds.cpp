#include "mlx_kd/discover/cluster/rounds.h"

#include <algorithm>

#include "mlx_kd/base/error.h"
#include "mlx_kd/spec/count.h"

namespace mlx_kd::discover {

base::Json to_json(const RoundReport& report) {
  return {{"evaluated", report.evaluated},
          {"benchmarked", report.benchmarked},
          {"enough", report.enough}};
}

RoundReport report_from_json(const base::Json& value) try {
  return {spec::count_of(value.at("evaluated")), value.at("benchmarked").get<bool>(),
          value.at("enough").get<bool>()};
} catch (const base::Json::exception& error) {
  base::misuse("discover", "a rank reports in another way (" + std::string(error.what()) +
                               "): start all ranks with the same mlx-kd");
}

void Rounds::start(uint64_t records, bool anchored) {
  records_ = records;
  anchored_ = anchored;
  over_ = records_ >= budget_;
}

uint64_t Rounds::share_of(size_t place) const {
  if (over_) return 0;
  if (!anchored_) return 1;
  const uint64_t all = std::min<uint64_t>(budget_ - records_, batch_ * ranks_);
  return all / ranks_ + (place < all % ranks_ ? 1 : 0);
}

void Rounds::take(const std::vector<RoundReport>& reports) {
  if (over_) return;
  uint64_t evaluated = 0;
  for (const RoundReport& report : reports) evaluated += report.evaluated;
  const auto all = [&](bool RoundReport::*what) {
    return std::all_of(reports.begin(), reports.end(),
                       [&](const RoundReport& report) { return report.*what; });
  };
  records_ += anchored_ ? evaluated : std::min<uint64_t>(evaluated, 1);
  over_ = records_ >= budget_ || evaluated == 0 || all(&RoundReport::enough);
  anchored_ = anchored_ || all(&RoundReport::benchmarked);
}

}  // namespace mlx_kd::discover
