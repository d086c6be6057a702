#include "mlx_kd/evaluate/proof/views.h"

#include <cstring>

namespace mlx_kd::evaluate {
namespace {

constexpr int64_t kGap = 8;  // elements between rows
constexpr std::byte kBetween{0xff};

std::vector<int64_t> gapped(const spec::Shape& shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;)
    strides[i - 1] = strides[i] * shape[i] + (i + 1 == shape.size() ? kGap : strides[i]);
  return strides;
}

std::vector<int64_t> reversed(const spec::Shape& shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  int64_t next = shape.back();
  for (size_t i = 0; i + 1 < shape.size(); ++i) {
    strides[i] = next;
    next *= shape[i];
  }
  return strides;
}

}  // namespace

spec::ArraySpec view_of(const spec::ArraySpec& array, ViewKind kind) {
  spec::ArraySpec view = array;
  if (kind != ViewKind::row_major && array.shape.size() > 1 && array.elements() > 0)
    view.strides = kind == ViewKind::gaps ? gapped(array.shape) : reversed(array.shape);
  return view;
}

int64_t span_bytes(const spec::ArraySpec& view) {
  if (view.strides.empty() || view.elements() == 0) return view.bytes();
  int64_t last = 0;
  for (size_t i = 0; i < view.shape.size(); ++i) last += (view.shape[i] - 1) * view.strides[i];
  return (last + 1) * spec::size_of(view.type);
}

std::vector<std::byte> laid_out(const void* data, const spec::ArraySpec& view) {
  std::vector<std::byte> result(static_cast<size_t>(span_bytes(view)), kBetween);
  const int64_t size = spec::size_of(view.type), row = view.shape.back();
  std::vector<int64_t> at(view.shape.size(), 0);
  const auto* from = static_cast<const std::byte*>(data);
  for (int64_t done = 0; done < view.elements(); done += row) {
    int64_t offset = 0;
    for (size_t i = 0; i < at.size(); ++i) offset += at[i] * view.strides[i];
    std::memcpy(result.data() + offset * size, from + done * size, static_cast<size_t>(row * size));
    for (size_t i = at.size() - 1; i-- > 0;) {  // the next row
      if (++at[i] < view.shape[i]) break;
      at[i] = 0;
    }
  }
  return result;
}

}  // namespace mlx_kd::evaluate
