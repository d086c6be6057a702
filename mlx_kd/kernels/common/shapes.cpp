#include "mlx_kd/kernels/common/shapes.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace mlx_kd::kernels {

void PortShapes::refuse(size_t port, const spec::ArrayView& array,
                        const std::string& wanted) const {
  throw std::invalid_argument("[" + std::string(op) + "] " + ports[port] + " has shape " +
                              shape_text(array.shape) + ": it must be " + wanted);
}

void PortShapes::check(size_t port, const spec::ArrayView& array,
                       std::initializer_list<int64_t> wanted) const {
  if (!std::equal(array.shape.begin(), array.shape.end(), wanted.begin(), wanted.end()))
    refuse(port, array, shape_text(wanted) + ", as " + as);
}

std::function<spec::Shape(const spec::Dims&)> shape_of(std::vector<std::string> dims) {
  return [names = std::move(dims)](const spec::Dims& size) {
    spec::Shape shape;
    for (const std::string& name : names) shape.push_back(size.at(name));
    return shape;
  };
}

}  // namespace mlx_kd::kernels
