#include "mlx_kd/discover/cluster/shared_records.h"

#include <set>

#include "mlx_kd/base/error.h"

namespace mlx_kd::discover {

base::Json SharedRecords::lines_of(const std::vector<archive::Record>& records,
                                   bool with_sources) const {
  base::Json lines = base::Json::array();
  std::set<std::string> sent;
  for (const archive::Record& record : records) {
    const std::string hash = record.candidate.source_hash();
    const bool missing = with_sources && !sources_.count(hash) && sent.insert(hash).second;
    lines.push_back(archive::to_line(record, seed_, missing));
  }
  return lines;
}

std::vector<archive::Record> SharedRecords::read(const base::Json& lines) try {
  std::vector<archive::Record> records;
  for (const base::Json& line : lines)
    records.push_back(archive::record_from_json(
        base::parse_json(line.get_ref<const std::string&>(), "discover", "a record of a rank"),
        sizes_, sources_));
  return records;
} catch (const base::Json::exception& error) {
  base::misuse("discover", "a rank sends what is not a record (" + std::string(error.what()) +
                               "): start all ranks with the same mlx-kd");
}

}  // namespace mlx_kd::discover
