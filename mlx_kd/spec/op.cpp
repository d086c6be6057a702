#include "mlx_kd/spec/op.h"

namespace mlx_kd::spec {

int64_t element_count(const Shape& shape) {
  int64_t count = 1;
  for (int64_t extent : shape) count *= extent;
  return count;
}

}  // namespace mlx_kd::spec
