// Shape suites in one line each.
#pragma once

#include <initializer_list>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "mlx_kd/spec/op/op.h"

namespace mlx_kd::kernels {

// A size with other values of some dims.
inline spec::Dims with(spec::Dims dims, std::initializer_list<spec::Dims::Item> changes) {
  for (const auto& [name, value] : changes) dims.set(name, value);
  return dims;
}

// {name: rows x d}, one size a number of rows.
inline spec::Suite rows_suite(const std::string& name, const std::vector<int64_t>& rows,
                              int64_t d) {
  spec::Suite suite{name, {}};
  for (int64_t count : rows) suite.sizes.push_back({{"rows", count}, {"D", d}});
  return suite;
}

inline const std::vector<int64_t> kDecodeRows = {1, 2, 4};
inline const std::vector<int64_t> kPrefillRows = {128, 256, 512, 1024};

// Single elements, odd rows, remainders of every vector width, a long row.
inline std::vector<spec::Dims> rows_edges() {
  std::vector<spec::Dims> sizes;
  for (const auto& [rows, d] : {std::pair{1, 1}, {3, 7}, {17, 64}, {7, 75}, {2, 2049}})
    sizes.push_back({{"rows", rows}, {"D", d}});
  return sizes;
}

// A dim that stands for all leading axes of [..., D], and of which a pin may cover a range.
inline spec::Dim rows_dim() {
  return {"rows", spec::Dim::Kind::dim, true, true};
}

// What a norm adds to the mean square.
inline spec::Scalar eps_scalar() {
  return {"eps", 1e-6, {1e-6, 1e-5}, 0, std::numeric_limits<double>::max(), true};
}

// Shapes of ports.
inline spec::Shape rows_by_d(const spec::Dims& dims) {
  return {dims.at("rows"), dims.at("D")};
}
inline spec::Shape one_row(const spec::Dims& dims) {
  return {dims.at("D")};
}

}  // namespace mlx_kd::kernels
