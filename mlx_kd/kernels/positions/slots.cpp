#include "mlx_kd/kernels/positions/slots.h"

#include <mlx/ops.h>

#include <iterator>
#include <stdexcept>

#include "mlx_kd/kernels/common/shapes.h"

namespace mlx_kd::kernels {
namespace mx = mlx::core;

spec::Port slots_port() {
  return {.name = "slots", .shape = shape_of({"B", "M"}), .type = spec::Dtype::int32};
}

spec::DocLine slots_parameter() {
  return {"slots",
          "int32 [B, M], different from each other. A row whose slot is negative or from P L on is "
          "not written"};
}

void check_slots(const char* op, const spec::ArrayView& slots, int64_t batch, int64_t added) {
  if (slots.shape.size() == 2 && slots.shape[0] == batch && slots.shape[1] == added) return;
  throw std::invalid_argument("[" + std::string(op) + "] slots has shape " +
                              shape_text(slots.shape) + ": it must be (B, M), as q says");
}

int64_t rows_of_pages(const spec::Dims& dims) {
  return dims.at("P") * dims.at("Hk") * dims.at("L");
}

void fill_slots(const spec::FillRequest& request, size_t port, base::Random& random) {
  const spec::Dims& dims = request.dims;
  const int64_t all = dims.at("P") * dims.at("L"), count = dims.at("B") * dims.at("M");
  const int64_t wrong[] = {-1, all, INT32_MIN, INT32_MAX};
  const auto first = static_cast<int64_t>(random.below(static_cast<uint64_t>(all)));
  for (int64_t i = 0; i < count; ++i) {
    const bool outside = i >= all || (request.distribution == spec::Distribution::special &&
                                      (i + static_cast<int64_t>(request.seed)) % 2 == 1);
    spec::store_integer(request.inputs[port], i, spec::Dtype::int32,
                        outside ? wrong[random.below(std::size(wrong))] : (first + i) % all);
  }
}

// Those of a slot outside go to a page that is dropped.
mx::array written_to_slots(const mx::array& pages, const mx::array& added, const mx::array& slots,
                           const mx::Stream& s) {
  const int count = pages.shape(0), length = pages.shape(2), all = count * length;
  if (all == 0 || added.size() == 0) return pages;
  const mx::array rows =  // (B, H, M, X) to (B M, H, X)
      mx::reshape(mx::swapaxes(added, 1, 2, s), {-1, added.shape(1), added.shape(3)}, s);
  const mx::array flat = mx::flatten(slots, s);
  const mx::array inside = mx::logical_and(mx::greater_equal(flat, mx::array(0), s),
                                           mx::less(flat, mx::array(all), s), s);
  const mx::array slot = mx::where(inside, flat, mx::array(all), s), divisor(length);
  const mx::array page = mx::floor_divide(slot, divisor, s);
  const mx::array place = mx::remainder(slot, divisor, s);
  const mx::array by_slot = mx::swapaxes(pages, 1, 2, s);  // (P, L, H, X)
  const mx::Shape first = {1, length, pages.shape(1), pages.shape(3)};
  const mx::array more = mx::concatenate({by_slot, mx::zeros(first, pages.dtype(), s)}, 0, s);
  const mx::array now =
      mx::scatter(more, {page, place}, mx::expand_dims(rows, std::vector<int>{1, 2}, s), {0, 1}, s);
  const mx::Shape end = {count, length, pages.shape(1), pages.shape(3)};
  return mx::swapaxes(mx::slice(now, {0, 0, 0, 0}, end, s), 1, 2, s);
}

}  // namespace mlx_kd::kernels
