#include "mlx_kd/shapes/dim_ranges.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <map>

#include "mlx_kd/base/error.h"

namespace mlx_kd::shapes {
namespace {

constexpr int64_t kMostOfDim = int64_t(1) << 31;
constexpr int64_t kFactor = 4;  // between two sampled points; even

bool read_end(std::string_view text, int64_t& value) {
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && stop == text.data() + text.size() && value >= 1 &&
         value <= kMostOfDim;
}

bool read_ends(std::string_view text, DimRange& range) {
  const size_t colon = text.find(':');
  return colon != text.npos && read_end(text.substr(0, colon), range.lo) &&
         read_end(text.substr(colon + 1), range.hi) && range.lo < range.hi;
}

std::string in_quotes(const std::string& text) {
  return "'" + text.substr(0, 80) + "'";
}

// What may be named, at the end of a message.
std::string dims_text(const spec::Op& op) {
  const auto names = ranged_dims(op);
  return names.empty() ? "op '" + op.name + "' has no dim of which a kernel may serve a range"
                       : "a range may be of " + base::list_of(names) + " of op '" + op.name + "'";
}

DimRange parse_range(const spec::Op& op, const std::string& text) {
  const size_t equals = text.find('=');
  DimRange range{text.substr(0, equals), 1, 1};
  const auto names = ranged_dims(op);
  if (equals == text.npos || range.dim.empty())
    base::misuse("shapes", "--range is " + in_quotes(text) +
                               ": give a dim with its least and its most, as NAME=1:512; " +
                               dims_text(op));
  if (std::find(names.begin(), names.end(), range.dim) == names.end())
    base::misuse("shapes", "--range is of " + in_quotes(range.dim) + ": " + dims_text(op));
  if (!read_ends(std::string_view(text).substr(equals + 1), range))
    base::misuse("shapes", "--range of '" + range.dim + "' is " +
                               in_quotes(text.substr(equals + 1)) +
                               ": give the least and the most, as " + range.dim + "=1:512");
  return range;
}

DimRange parse_row_range(const spec::Op& op, const std::string& text) {
  if (op.batch_dim.empty())
    base::misuse("shapes", "--row-range is " + in_quotes(text) + ": op '" + op.name +
                               "' has no batch dim; " + dims_text(op));
  DimRange range{op.batch_dim, 1, 1};
  if (!read_ends(text, range))
    base::misuse("shapes", "--row-range is " + in_quotes(text) + ": give the least and the most " +
                               op.batch_dim + ", as 1:512");
  return range;
}

size_t place_of(const spec::Op& op, const std::string& dim) {
  const auto names = op.dim_names();
  return static_cast<size_t>(std::find(names.begin(), names.end(), dim) - names.begin());
}

size_t points_of(const Axes& axes) {
  size_t count = 1;
  for (const auto& axis : axes) count *= axis.size();
  return count;
}

// All points of a grid, the last axis fastest.
void each_point(const Axes& axes, const std::function<void(const std::vector<int64_t>&)>& visit) {
  for (size_t point = 0, count = points_of(axes); point < count; ++point) {
    std::vector<int64_t> values(axes.size());
    size_t left = point;
    for (size_t i = axes.size(); i-- > 0; left /= axes[i].size())
      values[i] = *std::next(axes[i].begin(), static_cast<std::ptrdiff_t>(left % axes[i].size()));
    visit(values);
  }
}

void fill_grids(const spec::Op& op, const DimRanges& ranges, const Axes& samples,
                std::vector<spec::Dims>& sizes) {
  std::map<std::string, Axes> grids;
  for (const spec::Dims& size : sizes) {
    Axes& axes = grids.try_emplace(rest_of(op, ranges, size), samples).first->second;
    if (holds(ranges, size)) {
      for (size_t i = 0; i < ranges.size(); ++i) axes[i].insert(size.at(ranges[i].dim));
    }
  }
  const std::vector<spec::Dims> given = sizes;
  for (const spec::Dims& size : given)
    for (const spec::Dims& point :
         sizes_of_grid(op, size, ranges, grids.at(rest_of(op, ranges, size))))
      if (std::find(sizes.begin(), sizes.end(), point) == sizes.end()) sizes.push_back(point);
}

}  // namespace

std::vector<std::string> ranged_dims(const spec::Op& op) {
  std::vector<std::string> result;
  for (const spec::Dim& dim : op.dims)
    if (dim.free || dim.name == op.batch_dim) result.push_back(dim.name);
  return result;
}

DimRanges parse_ranges(const spec::Op& op, const std::vector<std::string>& ranges,
                       const std::string& row_range) {
  DimRanges result;
  const auto add = [&](const DimRange& range) {
    for (const DimRange& known : result)
      if (known.dim == range.dim)
        base::misuse("shapes", "two ranges of '" + range.dim + "' are given: give one");
    result.push_back(range);
  };
  if (!row_range.empty()) add(parse_row_range(op, row_range));
  for (const std::string& text : ranges) add(parse_range(op, text));
  std::sort(result.begin(), result.end(), [&](const DimRange& a, const DimRange& b) {
    return place_of(op, a.dim) < place_of(op, b.dim);
  });
  return result;
}

std::vector<int64_t> sample_range(const DimRange& range) {
  std::vector<int64_t> result = {range.lo};
  result.insert(result.end(), range.inside.begin(), range.inside.end());
  for (bool odd = true; range.inside.empty() && kFactor * result.back() < range.hi; odd = !odd)
    result.push_back(kFactor * result.back() - (odd ? 1 : 0));
  result.push_back(range.hi);
  return result;
}

std::vector<spec::Dims> sizes_of_grid(const spec::Op& op, const spec::Dims& size,
                                      const DimRanges& ranges, const Axes& axes) {
  if (axes.size() > 1 && points_of(axes) > kMostRangeSizes)
    base::misuse("shapes", "the ranges sample " + std::to_string(points_of(axes)) + " sizes, " +
                               std::to_string(kMostRangeSizes) +
                               " are the most: give narrower ranges, or fewer of them");
  std::vector<spec::Dims> result;
  each_point(axes, [&](const std::vector<int64_t>& values) {
    spec::Dims own;
    for (const std::string& name : op.dim_names()) own.set(name, size.at(name));
    for (size_t i = 0; i < ranges.size(); ++i) own.set(ranges[i].dim, values[i]);
    result.push_back(checked_size(op, own));
  });
  return result;
}

Sizes with_ranges(const spec::Op& op, const Sizes& sizes, const DimRanges& ranges) {
  if (ranges.empty()) return sizes;
  Axes samples;
  for (const DimRange& range : ranges) {
    const auto values = sample_range(range);
    samples.emplace_back(values.begin(), values.end());
  }
  Sizes result = sizes;
  fill_grids(op, ranges, samples, result.sizes);
  return result;
}

void complete_grids(const spec::Op& op, const DimRanges& ranges, std::vector<spec::Dims>& sizes) {
  fill_grids(op, ranges, Axes(ranges.size()), sizes);
}

bool holds(const DimRanges& ranges, const spec::Dims& size) {
  return std::all_of(ranges.begin(), ranges.end(),
                     [&](const DimRange& range) { return range.holds(size.at(range.dim)); });
}

std::string rest_of(const spec::Op& op, const DimRanges& ranges, const spec::Dims& size) {
  spec::Dims rest;
  for (const spec::Dim& dim : op.dims)
    if (std::none_of(ranges.begin(), ranges.end(),
                     [&](const DimRange& range) { return range.dim == dim.name; }))
      rest.set(dim.name, size.at(dim.name));
  return rest.text();
}

}  // namespace mlx_kd::shapes
