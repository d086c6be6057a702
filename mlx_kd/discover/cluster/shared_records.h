// Records on their way between ranks: lines of run.ndjson, a source text once for each device.
#pragma once

#include <string>
#include <vector>

#include "mlx_kd/archive/run/record_json.h"

namespace mlx_kd::discover {

// What the ranks of one device have told each other; alike on all of them.
class SharedRecords {
 public:
  SharedRecords(uint64_t seed, const std::vector<spec::Dims>& sizes) : seed_(seed), sizes_(sizes) {}

  // With `with_sources`, a record carries its source text if no rank has it yet; without, the
  // caller knows that another rank sends it first.
  base::Json lines_of(const std::vector<archive::Record>& records, bool with_sources) const;
  // Misuse (room archive or base) where a line is not a record.
  std::vector<archive::Record> read(const base::Json& lines);

 private:
  uint64_t seed_;
  std::vector<spec::Dims> sizes_;
  archive::Sources sources_;
};

}  // namespace mlx_kd::discover
