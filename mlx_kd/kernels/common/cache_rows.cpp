#include "mlx_kd/kernels/common/cache_rows.h"

#include <mlx/ops.h>

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "mlx_kd/base/error.h"

namespace mlx_kd::kernels {
namespace {

namespace mx = mlx::core;

// Rows `first`, `first + 1`, .. of the cache are replaced: of all batch rows (`b` < 0) or of one.
// `inside` chooses between the new rows and those that are there.
struct Place {
  mx::array first, inside;
  int b;
};

mx::array appended(const mx::array& cache, const mx::array& added, const Place& place,
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

// With one batch row, an offset for each row is one offset.
spec::Dims complete_places(const spec::Dims& dims) {
  if (dims.at("ragged") > 1)
    base::misuse("kernels", "ragged is " + std::to_string(dims.at("ragged")) +
                                ": give 0 (one offset) or 1 (an offset for each batch row)");
  spec::Dims result = dims;
  if (dims.at("B") == 1) result.set("ragged", 0);
  return result;
}

spec::Shape offset_shape(const spec::Dims& dims) {
  return {dims.at("ragged") ? dims.at("B") : 1};
}

std::function<spec::Shape(const spec::Dims&)> cache_rows(const char* length, const char* width) {
  return [length, width](const spec::Dims& dims) {
    return spec::Shape{dims.at("B"), dims.at("H"), dims.at(length), dims.at(width)};
  };
}

spec::Port offset_port() {
  return {.name = "offset",
          .shape = offset_shape,
          .type = spec::Dtype::int32,
          .int_range = [](const spec::Dims& dims) {
            return std::pair(int64_t(0), dims.at("S") - dims.at("M"));
          }};
}

int64_t first_row(const void* offsets, const spec::Dims& dims, int64_t b) {
  const int64_t at = spec::load_integer(offsets, dims.at("ragged") ? b : 0, spec::Dtype::int32);
  return at >= 0 && at <= dims.at("S") - dims.at("M") ? at : -1;
}

// Offsets are on the device, where MLX checks none: rows that do not fit write what is there.
spec::Op::Arrays append_in_mlx(spec::Op::Arrays caches, const spec::Op::Arrays& added,
                               const mx::array& offset, const mx::Stream& s) {
  const int last = caches[0].shape(2) - added[0].shape(2);
  size_t elements = 0;
  for (const mx::array& one : added) elements += one.size();
  if (last < 0 || elements == 0) return caches;
  const mx::array first = mx::clip(offset, mx::array(0), mx::array(last), s);
  const mx::array inside = mx::equal(first, offset, s);
  const int places = offset.shape(0);
  for (int i = 0; i < places; ++i) {
    const Place place{mx::slice(first, {i}, {i + 1}, s), mx::slice(inside, {i}, {i + 1}, s),
                      places > 1 ? i : -1};
    for (size_t port = 0; port < caches.size(); ++port)
      caches[port] = appended(caches[port], added[port], place, s);
  }
  return caches;
}

void fill_offsets(const spec::FillRequest& request, size_t port, base::Random& random) {
  const spec::Dims& dims = request.dims;
  const int64_t last = std::max<int64_t>(0, dims.at("S") - dims.at("M"));
  const int64_t wrong[] = {-1, last + 1, INT32_MIN, INT32_MAX};
  const int64_t places = offset_shape(dims).front();
  for (int64_t i = 0; i < places; ++i) {
    const auto draw = static_cast<int64_t>(random.below(static_cast<uint64_t>(last) + 1));
    const bool fits = request.distribution != spec::Distribution::special ||
                      (i + static_cast<int64_t>(request.seed)) % 2 == 0;
    // The first and the last place, then any.
    const int64_t offset = i == 1 ? 0 : i == 2 ? last : draw;
    spec::store_integer(request.inputs[port], i, spec::Dtype::int32,
                        fits ? offset : wrong[random.below(std::size(wrong))]);
  }
}

}  // namespace mlx_kd::kernels
