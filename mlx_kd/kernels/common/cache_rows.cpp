#include "mlx_kd/kernels/common/cache_rows.h"

#include <mlx/ops.h>

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "mlx_kd/base/random.h"

namespace mlx_kd::kernels {
namespace {

namespace mx = mlx::core;
using spec::Dims;
using spec::Dtype;

// Rows `first`, `first + 1`, .. of the cache are replaced: of all batch rows (`b` < 0) or of one.
// `inside` chooses between the new rows and those that are there.
struct Place {
  mx::array first, inside;
  int b;
};

mx::array replaced(const mx::array& cache, const mx::array& added, const Place& place,
                   const mx::Stream& s) {
  mx::Shape shape = added.shape();
  mx::array start = mx::reshape(place.first, {1}, s);
  std::vector<int> axes = {2};
  mx::array rows = added;
  if (place.b >= 0) {
    start = mx::concatenate({mx::array({place.b}), start}, 0, s);
    axes = {0, 2};
    rows = mx::slice(added, {place.b, 0, 0, 0}, {place.b + 1, shape[1], shape[2], shape[3]}, s);
    shape[0] = 1;
  }
  const mx::array there = mx::slice(cache, start, axes, shape, s);
  return mx::slice_update(cache, mx::where(place.inside, rows, there, s), start, axes, s);
}

}  // namespace

spec::Shape new_rows_shape(const Dims& dims) {
  return {dims.at("ragged") ? dims.at("B") : 1};
}

int64_t first_new_row(const void* places, const Dims& dims, int64_t b) {
  const int64_t at = spec::load_integer(places, dims.at("ragged") ? b : 0, Dtype::int32);
  return at >= 0 && at <= dims.at("S") - dims.at("M") ? at : -1;
}

// Places are on the device, where MLX checks none: rows that do not fit write what is there.
mx::array appended_in_mlx(const mx::array& cache, const mx::array& added, const mx::array& places,
                          const mx::Stream& s) {
  const int last = cache.shape(2) - added.shape(2);
  if (last < 0 || added.size() == 0) return cache;
  const mx::array first = mx::clip(places, mx::array(0), mx::array(last), s);
  const mx::array inside = mx::equal(first, places, s);
  const int count = places.shape(0);
  mx::array result = cache;
  for (int i = 0; i < count; ++i)
    result = replaced(
        result, added,
        {mx::slice(first, {i}, {i + 1}, s), mx::slice(inside, {i}, {i + 1}, s), count > 1 ? i : -1},
        s);
  return result;
}

void fill_new_rows(const spec::FillRequest& request, void* places) {
  base::Random random(request.seed * 37 + static_cast<uint64_t>(request.distribution));
  const Dims& dims = request.dims;
  const int64_t last = std::max<int64_t>(0, dims.at("S") - dims.at("M"));
  const int64_t wrong[] = {-1, last + 1, INT32_MIN, INT32_MAX};
  for (int64_t i = 0; i < new_rows_shape(dims).front(); ++i) {
    const auto draw = static_cast<int64_t>(random.below(static_cast<uint64_t>(last) + 1));
    const bool fits = request.distribution != spec::Distribution::special ||
                      (i + static_cast<int64_t>(request.seed)) % 2 == 0;
    // The first and the last place, then any.
    const int64_t place = i == 1 ? 0 : i == 2 ? last : draw;
    spec::store_integer(places, i, Dtype::int32,
                        fits ? place : wrong[random.below(std::size(wrong))]);
  }
}

}  // namespace mlx_kd::kernels
