// The values of run_data.h as the JSON of a run directory (run_writer.h states it), and back.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "mlx_kd/archive/run/run_data.h"

namespace mlx_kd::archive {

inline constexpr const char* kRunSchema = "3";

// Keys in the order a person reads them.
base::OrderedJson to_json(const RunMeta& meta);
// Misuse, naming origin, if a field is missing, of another type, or the schema is newer than ours.
RunMeta meta_from_json(const base::Json& value, const std::string& origin);

// One line without its end. The text of the source only if with_source.
std::string to_line(const Record& record, uint64_t seed, bool with_source);
std::string to_line(const Finish& finish);

// Source texts by source_hash, filled in by record_from_json as they come by.
using Sources = std::map<std::string, std::string>;

// `sizes` give dims back their order of names. Throws base::Error or base::Json::exception if the
// object is not a record.
Record record_from_json(const base::Json& value, const std::vector<spec::Dims>& sizes,
                        Sources& sources);
Finish finish_from_json(const base::Json& value, const std::vector<spec::Dims>& sizes);

// The one of `sizes` that equals value, else value itself.
spec::Dims dims_from_json(const base::Json& value, const std::vector<spec::Dims>& sizes);

}  // namespace mlx_kd::archive
