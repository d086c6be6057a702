#include "mlx_kd/shapes/row_range.h"

#include <algorithm>
#include <charconv>

#include "mlx_kd/base/error.h"

namespace mlx_kd::shapes {
namespace {

constexpr int64_t kMostRows = int64_t(1) << 31;
constexpr int64_t kFactor = 4;  // between two sampled points; even

bool read_rows(std::string_view text, int64_t& rows) {
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), rows);
  return error == std::errc() && stop == text.data() + text.size() && rows >= 1 &&
         rows <= kMostRows;
}

}  // namespace

RowRange parse_row_range(const std::string& text) {
  RowRange range;
  const std::string_view view = text;
  const size_t colon = view.find(':');
  if (colon == view.npos || !read_rows(view.substr(0, colon), range.lo) ||
      !read_rows(view.substr(colon + 1), range.hi) || range.lo >= range.hi)
    base::misuse("shapes", "--row-range is '" + text.substr(0, 80) +
                               "': give the least and the most rows, as 1:512");
  return range;
}

std::vector<int64_t> sample_rows(const RowRange& range) {
  std::vector<int64_t> result = {range.lo};
  for (bool odd = true; kFactor * result.back() < range.hi; odd = !odd)
    result.push_back(kFactor * result.back() - (odd ? 1 : 0));
  result.push_back(range.hi);
  return result;
}

Sizes with_row_range(const spec::Op& op, const Sizes& sizes, const RowRange& range) {
  Sizes result = sizes;
  for (const spec::Dims& size : sizes.sizes)
    for (int64_t rows : sample_rows(range)) {
      spec::Dims own;
      for (const std::string& name : op.dim_names())
        own.set(name, name == op.batch_dim ? rows : size.at(name));
      const spec::Dims complete = checked_size(op, own);
      auto& known = result.sizes;
      if (std::find(known.begin(), known.end(), complete) == known.end()) known.push_back(complete);
    }
  return result;
}

std::string rest_of(const spec::Op& op, const spec::Dims& size) {
  spec::Dims rest;
  for (const spec::Dim& dim : op.dims)
    if (dim.name != op.batch_dim) rest.set(dim.name, size.at(dim.name));
  return rest.text();
}

}  // namespace mlx_kd::shapes
