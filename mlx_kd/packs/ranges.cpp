#include "mlx_kd/packs/ranges.h"

#include "mlx_kd/packs/fields.h"

namespace mlx_kd::packs {
namespace {

using base::Json;

int64_t size_in(const Json& value, const std::string& what) {
  if (!value.is_number_integer() || value.get<int64_t>() < 1)
    damaged(what + " has a value that is not a size");
  return value.get<int64_t>();
}

// [lo, hi] and the list of samples.
DimRange read_range(const Json& pair, const Json& samples, const std::string& what) {
  if (!pair.is_array() || pair.size() != 2) damaged(what + " is not a pair");
  DimRange result{size_in(pair[0], what), size_in(pair[1], what), {}};
  if (result.lo > result.hi) damaged(what + " ends before it starts");
  for (const Json& sample : samples) result.sampled.push_back(size_in(sample, what));
  return result;
}

}  // namespace

std::optional<DimRange> read_rows(const Json& raw) {
  const Json& range = list_in(raw, "rows_range");
  if (range.empty()) return std::nullopt;
  return read_range(range, list_in(raw, "rows_sampled"), "'rows_range'");
}

std::map<std::string, DimRange> read_ranges(const Json& raw, const spec::Dims& shape) {
  std::map<std::string, DimRange> result;
  const Json& samples = object_in(raw, "sampled");
  for (const auto& [dim, pair] : object_in(raw, "ranges").items()) {
    const std::string what = "the range of '" + dim.substr(0, 40) + "'";
    if (!shape.has(dim)) damaged(what + " is of a dim that its shape_signature does not have");
    result[dim] = read_range(pair, list_in(samples, dim), what);
  }
  for (const auto& [dim, list] : samples.items())
    if (!result.count(dim))
      damaged("'sampled' has '" + dim.substr(0, 40) + "', which 'ranges' does not have");
  return result;
}

void write_ranges(const Entry& entry, Json& json) {
  if (entry.rows_range) {
    json["rows_range"] = {entry.rows_range->lo, entry.rows_range->hi};
    json["rows_sampled"] = entry.rows_range->sampled;
  }
  for (const auto& [dim, range] : entry.ranges) {
    json["ranges"][dim] = {range.lo, range.hi};
    json["sampled"][dim] = range.sampled;
  }
}

}  // namespace mlx_kd::packs
