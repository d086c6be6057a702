// What an evaluation becomes: a record of the run, and an observation of the strategy.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "mlx_kd/archive/run/run_data.h"
#include "mlx_kd/search/space/features.h"
#include "mlx_kd/search/strategy/strategy.h"

namespace mlx_kd::discover {

inline bool is_benchmarked(const archive::Record& record) {
  return record.verdict.status == spec::Status::benchmarked;
}

// Of a point of the space.
search::Observation observation_of(size_t point, const archive::Record& record);

std::vector<double> log_ratios_of(const archive::Record& record);

struct Evaluated {
  const spec::Candidate* candidate;
  size_t point;
  const spec::Verdict* verdict;
  uint64_t step;
  std::string parent_id;                // the best before it; empty: none
  std::optional<double> expected_gain;  // of its batch
};

archive::Record make_record(const search::Features& features, const Evaluated& evaluated);

}  // namespace mlx_kd::discover
