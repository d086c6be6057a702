#include "mlx_kd/devices/host/mlx_types.h"

#include <limits>

#include "mlx_kd/base/error.h"

namespace mlx_kd::devices {

namespace mx = mlx::core;

mx::Dtype mlx_dtype(spec::Dtype dtype) {
  switch (dtype) {
    case spec::Dtype::float16:
      return mx::float16;
    case spec::Dtype::bfloat16:
      return mx::bfloat16;
    case spec::Dtype::int32:
      return mx::int32;
    case spec::Dtype::uint32:
      return mx::uint32;
    case spec::Dtype::int64:
      return mx::int64;
    case spec::Dtype::uint8:
      return mx::uint8;
    case spec::Dtype::boolean:
      return mx::bool_;
    case spec::Dtype::float64:
      return mx::float64;
    case spec::Dtype::float32:
      break;
  }
  return mx::float32;
}

std::optional<spec::Dtype> spec_dtype(mx::Dtype dtype) {
  for (const spec::Dtype one : spec::all_dtypes())
    if (mlx_dtype(one) == dtype) return one;
  return std::nullopt;
}

mx::Device::DeviceType mlx_place(const std::string& kind) {
  return kind == "metal" || kind == "cuda" ? mx::Device::gpu : mx::Device::cpu;
}

bool serves_programs(const std::string& kind) {
  return kind != "null" && kind != "simt" && mx::is_available(mlx_place(kind));
}

mx::Shape mlx_shape(const spec::Shape& shape) {
  for (const int64_t extent : shape)
    if (extent < 0 || extent > std::numeric_limits<mx::ShapeElem>::max())
      base::fail("devices", "an axis of " + std::to_string(extent) +
                                " elements is more than MLX takes: split the array");
  return mx::Shape(shape.begin(), shape.end());
}

std::vector<mx::Shape> mlx_shapes(const std::vector<spec::Shape>& shapes) {
  std::vector<mx::Shape> result;
  result.reserve(shapes.size());
  for (const spec::Shape& shape : shapes) result.push_back(mlx_shape(shape));
  return result;
}

}  // namespace mlx_kd::devices
