// A record of run.ndjson, looked at no more than a search that goes on has to: in a tenth of the
// time, and without its texts.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlx_kd/archive/run/run_data.h"

namespace mlx_kd::archive {

struct Brief {
  uint64_t step = 0;
  std::string candidate_id, variant, language;
  spec::Setting knobs;
  bool benchmarked = false, incumbent = false;
  bool has_source = false;  // the text of its source is in this record
  double objective = spec::kUnmeasured;
  spec::Status status = spec::Status::crashed;
  double seconds = 0;  // all that its evaluation took, and by stage
  std::vector<std::pair<std::string, double>> stages;
  // A size each, in the record's order.
  std::vector<double> log_ratios, kernel_us, latency_us;
};

// What record_from_json would read of the line, of what it names. Throws base::Error or
// base::Json::exception where that is not there; damage elsewhere in the line is not noticed. False
// for a line that is not of an evaluation.
bool read_brief(std::string_view line, Brief& brief);

// How the records of a long log are handed over: all but the last ones, one by one and not kept.
struct OldRecords {
  uint64_t kept = UINT64_MAX;  // about as many as these are read whole and kept,
  uint64_t step = 1;           // so that a multiple of this is handed over
  // `whole` reads the record; it may be called during the call only.
  std::function<void(const Brief& brief, const std::function<Record()>& whole)> take = {};
};

}  // namespace mlx_kd::archive
