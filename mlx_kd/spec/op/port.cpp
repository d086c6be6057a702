#include "mlx_kd/spec/op/port.h"

#include <cmath>

#include "mlx_kd/base/json.h"

namespace mlx_kd::spec {
namespace {

std::string text_of(double value) {
  return base::canonical_json(value == std::floor(value) && std::fabs(value) < 1e15
                                  ? base::Json(static_cast<int64_t>(value))
                                  : base::Json(value));
}

}  // namespace

int64_t element_count(const Shape& shape) {
  int64_t count = 1;
  for (int64_t extent : shape) count *= extent;
  return count;
}

std::vector<int64_t> row_major_strides(const Shape& shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
  return strides;
}

std::string name_of(Judge judge) {
  switch (judge) {
    case Judge::bound:
      return "bound";
    case Judge::exact:
      return "exact";
    case Judge::residuals:
      return "residuals";
  }
  return "";
}

ArraySpec array_of(const Port& port, Dtype t, const Dims& dims) {
  return {port.shape(dims), port.type.at(t, dims)};
}

std::vector<ArraySpec> arrays_of(const std::vector<Port>& ports, Dtype t, const Dims& dims) {
  std::vector<ArraySpec> result;
  result.reserve(ports.size());
  for (const Port& port : ports) result.push_back(array_of(port, t, dims));
  return result;
}

int64_t bytes_of(const std::vector<Port>& ports, Dtype t, const Dims& dims) {
  int64_t sum = 0;
  for (const Port& port : ports) sum += array_of(port, t, dims).bytes();
  return sum;
}

std::string Scalar::why_not(double value) const {
  if (!std::isfinite(value)) return "give a finite number";
  if (integer && value != std::floor(value)) return "give a whole number";
  const bool below = above ? value <= least : value < least;
  if (!below && value <= most) return "";
  if (most == std::numeric_limits<double>::max())
    return above ? "give a number above " + text_of(least)
                 : "give a number of at least " + text_of(least);
  return "give a number " + std::string(above ? "above " : "from ") + text_of(least) + " to " +
         text_of(most);
}

}  // namespace mlx_kd::spec
